"""The Grafana dashboards: what is on them, and how it becomes Grafana's JSON and pictures."""
