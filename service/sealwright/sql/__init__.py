"""The store on a database: implements `keys/ports.py` with SQLAlchemy Core."""
