"""The services of the hospital. Each owns its schema and its topics; they never import each other."""
