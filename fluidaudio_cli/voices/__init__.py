"""Known voices: who was heard before, kept in a store, enrolled, learned from, linked."""
