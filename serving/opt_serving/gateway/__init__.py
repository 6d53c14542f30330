"""The gateway of a served model: finds a replica for each request, and holds it while there is none."""
