"""The HTTP server: metrics, health, the JSON API and the page."""
