"""Offline, over many machines: the extra `fleet`."""

from runtime.fleet.command import main as main
