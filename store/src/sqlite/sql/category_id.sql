SELECT category_id FROM idx.categories WHERE name = ?1
