"""Who speaks when: pure steps on arrays, and the pipeline that joins them."""
