"""Alembic's entry point: runs the migrations on the connection in `attributes`."""

from alembic import context

from sealwright.sql.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
    transactional_ddl=True,
)
context.run_migrations()
