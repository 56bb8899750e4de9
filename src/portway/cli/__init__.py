"""The command line: words become calls of `lab`, answers become text or JSON, errors one line with the cure.

`main` declares the commands; `enter` joins a host's namespaces, `doctor` looks at the machine, `show` prints. Heavy packages are
imported inside the commands that need them: `portway --help` answers at once.
"""
