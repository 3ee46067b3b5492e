"""Small valid files of every kind that is read, spoilt by seeds: `make fuzz SECONDS=60`."""
