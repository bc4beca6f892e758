"""``python -m advisor``. The guard matters: worker processes are spawned and import this module again."""

from advisor.cli import main

if __name__ == "__main__":
    main()
