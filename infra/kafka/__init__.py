"""The Kafka jars: `jgo.toml` names what is wanted, `jgo.lock.toml` every jar with its SHA-256 (made by `make lock`)."""
