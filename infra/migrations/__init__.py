"""Schema of the two databases, each with its own history in `<database>/versions/`."""
