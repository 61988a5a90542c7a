"""Adapters: each plugs one way of calling tools into the governor. Import the one you use."""
