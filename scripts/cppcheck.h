/* cppcheck.h - macros of libraries that cppcheck cannot see; for scripts/lint only */
#define json_array_foreach(array, i, value) \
	for ((i) = 0; ((value) = json_array_get(array, i)); (i)++)
#define json_object_foreach(object, key, value) \
	for ((key) = first_key(object); ((value) = value_of(object, key)); (key) = next_key(key))
