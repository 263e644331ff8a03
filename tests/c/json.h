/* Reads the JSON of the test vectors: numbers are unsigned integers of 64 bits, which most readers do not keep
 * exact, and true and false are 1 and 0, as in C. Ends the program with a message on anything else. */
#ifndef ESCOPE_TEST_JSON_H
#define ESCOPE_TEST_JSON_H

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum json_kind { JSON_NULL, JSON_NUMBER, JSON_STRING, JSON_LIST, JSON_OBJECT };

struct json {
    enum json_kind kind;
    char *name; /* of a member of an object */
    uint64_t number;
    char *text; /* ends in NUL, and may hold others */
    size_t length;
    struct json *items;
    size_t count;
};

struct json_reader {
    const char *file, *start, *at;
};

static inline void json_fail(const struct json_reader *reader, const char *expected) {
    fprintf(stderr, "%s: byte %td: expected %s\n", reader->file, reader->at - reader->start, expected);
    exit(2);
}

static inline void json_space(struct json_reader *reader) { reader->at += strspn(reader->at, " \t\r\n"); }

static inline int json_take(struct json_reader *reader, char wanted) {
    json_space(reader);
    if (*reader->at != wanted) {
        return 0;
    }
    reader->at++;
    return 1;
}

static inline void *json_grow(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (memory == NULL) {
        fputs("out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

/* Appends a code point of the basic plane as UTF-8; the vectors have no other escaped ones. */
static inline size_t json_utf8(char *to, unsigned long point) {
    if (point < 0x80) {
        to[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        to[0] = (char)(0xc0 | point >> 6);
        to[1] = (char)(0x80 | (point & 0x3f));
        return 2;
    }
    to[0] = (char)(0xe0 | point >> 12);
    to[1] = (char)(0x80 | (point >> 6 & 0x3f));
    to[2] = (char)(0x80 | (point & 0x3f));
    return 3;
}

static inline char *json_string(struct json_reader *reader, size_t *length) {
    if (!json_take(reader, '"')) {
        json_fail(reader, "a string");
    }
    /* No escape is shorter than what it stands for. What was too much is given back below. */
    char *text = json_grow(NULL, strcspn(reader->at, "\n") + 1);
    *length = 0;
    while (*reader->at != '"') {
        if (*reader->at == 0) {
            json_fail(reader, "the end of a string");
        }
        if (*reader->at != '\\') {
            text[(*length)++] = *reader->at++;
            continue;
        }
        static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
        const char *escape = strchr(escapes, reader->at[1]);
        if (reader->at[1] == 'u' && strspn(reader->at + 2, "0123456789abcdefABCDEF") >= 4) {
            char digits[5] = {reader->at[2], reader->at[3], reader->at[4], reader->at[5], 0};
            *length += json_utf8(text + *length, strtoul(digits, NULL, 16));
            reader->at += 6;
        } else if (reader->at[1] != 0 && escape != NULL) {
            text[(*length)++] = meanings[escape - escapes];
            reader->at += 2;
        } else {
            json_fail(reader, "an escape");
        }
    }
    reader->at++;
    text[*length] = 0;
    return json_grow(text, *length + 1);
}

static inline struct json json_value(struct json_reader *reader) {
    struct json value = {.kind = JSON_NULL};
    json_space(reader);
    if (*reader->at == '"') {
        value.kind = JSON_STRING;
        value.text = json_string(reader, &value.length);
    } else if (*reader->at >= '0' && *reader->at <= '9') {
        char *end;
        errno = 0;
        value.kind = JSON_NUMBER;
        value.number = strtoull(reader->at, &end, 10);
        if (errno != 0 || strchr(".eE", *end) != NULL) {
            json_fail(reader, "an integer of 64 bits");
        }
        reader->at = end;
    } else if (strncmp(reader->at, "null", 4) == 0) {
        reader->at += 4;
    } else if (strncmp(reader->at, "true", 4) == 0 || strncmp(reader->at, "false", 5) == 0) {
        value.kind = JSON_NUMBER;
        value.number = *reader->at == 't';
        reader->at += value.number ? 4 : 5;
    } else if (*reader->at == '[' || *reader->at == '{') {
        char close = *reader->at++ == '[' ? ']' : '}';
        value.kind = close == ']' ? JSON_LIST : JSON_OBJECT;
        while (!json_take(reader, close)) {
            if (value.count > 0 && !json_take(reader, ',')) {
                json_fail(reader, "a comma");
            }
            char *name = NULL;
            size_t length;
            if (value.kind == JSON_OBJECT) {
                name = json_string(reader, &length);
                if (!json_take(reader, ':')) {
                    json_fail(reader, "a colon");
                }
            }
            struct json item = json_value(reader);
            item.name = name;
            value.items = json_grow(value.items, (value.count + 1) * sizeof *value.items);
            value.items[value.count++] = item;
        }
    } else {
        json_fail(reader, "a value");
    }
    return value;
}

static inline struct json json_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    char *text = NULL;
    size_t length = 0, got;
    do {
        text = json_grow(text, length + 65537);
        got = fread(text + length, 1, 65536, file);
        length += got;
    } while (got > 0);
    fclose(file);
    text[length] = 0;
    struct json_reader reader = {path, text, text};
    struct json value = json_value(&reader);
    json_space(&reader);
    if (*reader.at != 0) {
        json_fail(&reader, "the end of the file");
    }
    free(text);
    return value;
}

static inline void json_free(struct json *value) {
    for (size_t i = 0; i < value->count; i++) {
        json_free(&value->items[i]);
    }
    free(value->items);
    free(value->text);
    free(value->name);
}

/* A member of an object; NULL if there is none. */
static inline const struct json *json_find(const struct json *object, const char *name) {
    for (size_t i = 0; i < object->count; i++) {
        if (object->items[i].name != NULL && strcmp(object->items[i].name, name) == 0) {
            return &object->items[i];
        }
    }
    return NULL;
}

/* A member that must be there, of that kind. */
static inline const struct json *json_member(const struct json *object, const char *name, enum json_kind kind) {
    const struct json *member = json_find(object, name);
    if (member == NULL || member->kind != kind) {
        fprintf(stderr, "a vector lacks `%s`, or it is of another kind\n", name);
        exit(2);
    }
    return member;
}

static inline uint64_t json_number(const struct json *object, const char *name) {
    return json_member(object, name, JSON_NUMBER)->number;
}

static inline const char *json_text(const struct json *object, const char *name) {
    return json_member(object, name, JSON_STRING)->text;
}

#endif
