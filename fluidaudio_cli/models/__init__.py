"""The bundled networks: their packages and manifest, how to load and how to rebuild them."""
