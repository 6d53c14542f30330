"""The gateways: where clients go."""

PORT, ADMIN_PORT = 8000, 8001
