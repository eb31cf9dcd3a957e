"""Grafana dashboards, made from the catalogue of metrics: `make dashboards` writes them into `configs/grafana`."""
