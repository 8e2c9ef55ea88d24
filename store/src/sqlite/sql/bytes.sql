SELECT (SELECT page_count FROM pragma_page_count('log')) * (SELECT page_size FROM pragma_page_size('log'))
     + (SELECT page_count FROM pragma_page_count('idx')) * (SELECT page_size FROM pragma_page_size('idx'))
