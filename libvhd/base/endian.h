/* endian.h - integers on disk and on the wire, byte by byte
 *
 * Nothing on disk is ever overlaid with a struct: fields are loaded from and
 * stored to byte pointers of any alignment.
 */
#ifndef BASE_ENDIAN_H
#define BASE_ENDIAN_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define be32_swap(v) __builtin_bswap32(v)
#define be64_swap(v) __builtin_bswap64(v)
#else
#define be32_swap(v) (v)
#define be64_swap(v) (v)
#endif

static inline uint16_t be16_load(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t be32_load(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32_swap(v);
}

static inline uint64_t be64_load(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64_swap(v);
}

static inline void be16_store(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void be32_store(uint8_t *p, uint32_t v)
{
	v = be32_swap(v);
	memcpy(p, &v, sizeof(v));
}

static inline void be64_store(uint8_t *p, uint64_t v)
{
	v = be64_swap(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint16_t le16_load(const uint8_t *p)
{
	return (uint16_t)(p[1] << 8 | p[0]);
}

static inline void le16_store(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline uint32_t le32_load(const uint8_t *p)
{
	return le16_load(p) | (uint32_t)le16_load(p + 2) << 16;
}

static inline uint64_t le64_load(const uint8_t *p)
{
	return le32_load(p) | (uint64_t)le32_load(p + 4) << 32;
}

static inline void le32_store(uint8_t *p, uint32_t v)
{
	le16_store(p, (uint16_t)v);
	le16_store(p + 2, (uint16_t)(v >> 16));
}

static inline void le64_store(uint8_t *p, uint64_t v)
{
	le32_store(p, (uint32_t)v);
	le32_store(p + 4, (uint32_t)(v >> 32));
}

#endif
