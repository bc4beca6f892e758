"""What is known about models, machines and vocabularies before anything is downloaded.

``models_catalog/*.yaml`` holds the facts; ``load.py`` reads them, ``names.py`` finds what a person means by a name.
"""
