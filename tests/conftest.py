from hypothesis import settings

settings.register_profile("same cases every run", deadline=None, derandomize=True, database=None)
settings.load_profile("same cases every run")
