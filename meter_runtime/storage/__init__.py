"""What outlives a power cut. Everything goes through :mod:`~meter_runtime.storage.media`."""
