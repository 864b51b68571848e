"""What README shows is what its commands print."""
import readme


def test_readme_shows_what_its_commands_print():
    found = readme.blocks()
    assert len(found) >= 2
    for script, rest, text in found:
        assert readme.shown(script, rest) == text, f"python tests/readme.py brings {script}{rest} up to date"
