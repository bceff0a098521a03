"""Builds the Grafana dashboards. A tool of the checkout, no part of the installed package."""
