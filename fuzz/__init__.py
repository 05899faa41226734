"""Damaged media through the real extraction: what must hold for every file, however broken."""
