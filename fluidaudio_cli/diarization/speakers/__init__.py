"""Who is who in a recording, decided from calibrated evidence."""
