"""The store on a database: `keys/ports.py` fulfilled with SQLAlchemy Core."""
