"""`python -m ipva_storage.cli`, where the program is not on the path."""

from ipva_storage.cli.start import main

main()
