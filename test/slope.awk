# slope.awk: reads s3up.h and then s3up.c, and prints what test/slope.sh makes its verdict from.
#
#   F <tab> rule <tab> line <tab> what is wrong there
#   N <tab> name <tab> a number of the house
#   E <tab> exit code <tab> its text, from the list in s3up.h
#
# It is no compiler: it knows comments, strings, braces and how this house writes C. That is enough to
# tell which function a line belongs to and whom it names. POSIX awk only: mawk, gawk and busybox agree.

function finding(rule, line, text)
{
    printf "F\t%s\t%d\t%s\n", rule, line, text
}

function number(name, value)
{
    printf "N\t%s\t%s\n", name, value
}

# --- the map in s3up.h: which prefixes a room has -------------------------------------------------

function map_line(s,    n, i, word, name)
{
    sub(/^ \* ?/, "", s)
    n = split(s, word, /[ \t]+/)
    i = word[1] == "" ? 2 : 1
    if (s ~ /^ *[0-9]+ /) {
        map_room = word[i++] + 0
        for (name = ""; i <= n && word[i] !~ /^([a-z0-9]+_|-)$/; i++)
            name = name (name == "" ? "" : " ") word[i]
        map_name[map_room] = name
    }
    for (; i <= n && word[i] ~ /^[a-z0-9]+_$/; i++) {
        if (word[i] in room_of_prefix)
            finding("rooms", FNR, "the prefix " word[i] " belongs to two rooms")
        room_of_prefix[word[i]] = map_room
        prefixes[map_room] = prefixes[map_room] " " word[i]
    }
}

function exit_line(s,    word)
{
    split(s, word, /X\([A-Z]+, */)
    sub(/, *".*/, "", word[2])
    sub(/^[^"]*"/, "", s)
    sub(/".*/, "", s)
    printf "E\t%d\t%s\n", word[2], s
}

# The sign of a room that a name carries: all up to its first _, in lower case.
function prefix_of(name)
{
    return match(name, /^[A-Za-z0-9]+_/) ? tolower(substr(name, 1, RLENGTH)) : tolower(name) "_"
}

# --- lines: comments out, strings noted ---------------------------------------------------------

# What is left of a line without comments; "" and '' stand where a string or a character stood.
function strip(s,    out, what, text)
{
    out = ""
    while (s != "") {
        if (in_comment) {
            if (!match(s, /\*\//))
                return out
            s = substr(s, RSTART + 2)
            in_comment = 0
            continue
        }
        if (!match(s, /\/\*|\/\/|"|'/))
            return out s
        out = out substr(s, 1, RSTART - 1)
        s = substr(s, RSTART)
        what = substr(s, 1, 1)
        if (what == "/") {
            if (substr(s, 2, 1) == "/")
                return out
            in_comment = 1
            s = substr(s, 3)
        } else if (what == "\"" ? match(s, /^"([^"\\]|\\.)*"/) : match(s, /^'([^'\\]|\\.)+'/)) {
            text = substr(s, 2, RLENGTH - 2)
            out = out what what
            s = substr(s, RLENGTH + 1)
            if (what == "\"")
                string_seen(text)
        } else {
            finding("rooms", FNR, "a quote without end: this script cannot read on")
            return out
        }
    }
    return out
}

# Facts may hide in strings: a text told twice, an exit code's number, a limit's value.
function string_seen(text,    s)
{
    # Words, that is: lines of two certificates may well be equal.
    if (length(text) >= 40 && text ~ / / && text in told)
        finding("strings", FNR, "the same text stands in line " told[text] ": \"" text "\"")
    else
        told[text] = FNR
    if (tolower(text) ~ /exits?( code| with)? [0-9]/)
        finding("exits", FNR, "a text that tells an exit code by its number: \"" text "\"")
    for (s = text; match(s, /[0-9][0-9,]*[0-9]/); s = substr(s, RSTART + RLENGTH))
        string_number(substr(s, RSTART, RLENGTH))
}

function string_number(digits)
{
    gsub(/,/, "", digits)
    if (length(digits) >= 4 && digits in limit && room > 0)
        finding("limits", FNR, "a text that repeats the value of " limit[digits] ": " digits)
}

function banner(s,    name)
{
    name = s
    sub(/^(\/\*| \*) ===== ROOM /, "", name)
    if (name + 0 <= room)
        finding("rooms", FNR, "room " name + 0 " stands behind room " room)
    room = name + 0
    last_room = room
    sub(/^[0-9]+ /, "", name)
    sub(/:.*/, "", name)
    if (!(room in map_name))
        finding("rooms", FNR, "room " room " is not on the map in s3up.h")
    else if (map_name[room] != name)
        finding("rooms", FNR, "this room is \"" name "\" here and \"" map_name[room] "\" on the map")
    seen_room[room] = 1
    head_note = FNR
}

# --- declarations at the top level, and what stands in bodies ------------------------------------

function is_word(t)
{
    return t ~ /^[A-Za-z_]/
}

function is_keyword(t)
{
    return t ~ /^(void|int|char|unsigned|signed|long|short|bool|const|static|struct|return|sizeof|if|for|while|switch)$/
}

function decl_reset()
{
    d_first = d_name = d_last = ""
    d_line = d_static = d_const = d_star_open = d_typedef = d_eq = d_params = d_any = d_pointer = 0
    d_own_line = 1
}

function owned(name, at,    p)
{
    if (!(name in home) || home[name] > room_at[at])
        home[name] = room_at[at]
    p = prefix_of(name)
    if (name == "main" || room_at[at] == 0)
        return
    if (!(p in room_of_prefix) || room_of_prefix[p] != room_at[at])
        finding("prefix", at, name " stands in room " room_at[at] ", whose names begin with" prefixes[room_at[at]])
}

function function_starts(line,    above)
{
    f_name = d_name
    f_forks = 0
    f_line = d_first_line
    f_params = d_any ? d_params + 1 : 0
    if (!d_own_line)
        finding("layout", d_line, d_name ": its name does not begin the line, below the type")
    owned(d_name, d_line)
    for (above = f_line - 1; above > 0 && directive[above]; above--)
        continue
    commented += comment_only[above] && above > 0
    functions++
    last_function = f_name
    if (f_params > 5)
        finding("params", d_line, f_name " has " f_params " parameters, more than 5")
    if (f_params > most_params)
        most_params = f_params
    # A flat switch or a table may be longer; its comment says so.
    f_excused = 0
    for (; above > 0 && comment_only[above]; above--)
        if (raw[above] ~ /longer than 80 lines/)
            f_excused = 1
}

function function_ends(line,    n)
{
    n = line - f_line + 1
    length_count[n]++
    if (n > longest) {
        longest = n
        longest_name = f_name
    }
    if (n > 80 && !f_excused)
        finding("length", f_line, f_name " has " n " lines, more than 80")
    f_name = ""
}

function variable_ends(line)
{
    if (!d_static || d_last == "")
        return
    owned(d_last, line)
    if (!d_const || d_star_open)
        mutable = mutable " " d_last
}

function decl_ends(line)
{
    if (d_name != "" && !d_eq && !d_typedef) {
        if (d_static || d_name !~ /^s3up_/)
            finding("prototypes", d_line, d_name " is announced before it is defined")
    } else if (!d_typedef) {
        variable_ends(line)
    }
    decl_reset()
}

# A token at the top level, outside of all braces.
function top_token(t, line)
{
    if (d_first == "" && t != ";") {
        d_first = t
        d_first_line = line
    }
    if (attribute) { # __attribute__((...)) says nothing to us
        attribute += (t == "(") - (t == ")")
        if (attribute == 1 && t == ")")
            attribute = 0
        return
    }
    if (t == "__attribute__") {
        attribute = 1
        return
    }
    if (t == "(") {
        if (!paren && d_name == "" && !d_eq && !d_pointer && is_word(before)) {
            d_name = before
            d_line = before_line
            d_own_line = index(code[before_line], before "(") == 1
        }
        paren++
    } else if (t == ")") {
        paren--
    } else if (paren && t == "*" && before == "(" && paren == 1 && !d_any) {
        d_name = "" # type (*name)(...): a variable
        d_pointer = 1
        d_last = ""
    } else if (paren && d_pointer) {
        if (t == "const")
            d_const = 1
        else if (is_word(t) && d_last == "")
            d_last = t
    } else if (paren) {
        if (paren == 1 && t == ",")
            d_params++
        if (t != "void")
            d_any = 1
    } else if (t == "=") {
        d_eq = 1
    } else if (t == "[") {
        bracket++
    } else if (t == "]") {
        bracket--
    } else if (t == "static") {
        d_static = 1
    } else if (t == "typedef") {
        d_typedef = 1
    } else if (t == "const") {
        d_const = 1
        d_star_open = 0
    } else if (t == "*") {
        d_star_open = 1
    } else if (is_word(t) && !d_eq && !bracket) {
        d_last = t
    }
}

# static inside of a function is as global as any other; the words up to = or ; tell whether it is const.
function inner_static(t)
{
    if (t == "static") {
        s_open = 1
        s_const = s_star = 0
        s_last = ""
    } else if (s_open && (t == "=" || t == ";" || t == "{")) {
        if (!s_const || s_star)
            mutable = mutable " " f_name ":" s_last
        s_open = 0
    } else if (s_open && t == "const") {
        s_const = 1
        s_star = 0
    } else if (s_open && t == "*") {
        s_star = 1
    } else if (s_open && is_word(t)) {
        s_last = t
    }
}

function named(t, line)
{
    if (!((t, room_at[line]) in first_named))
        first_named[t, room_at[line]] = line
}

function called(t, line)
{
    if (is_keyword(t))
        return
    if (!((t, room_at[line]) in first_called))
        first_called[t, room_at[line]] = line
    if (t in forbidden)
        finding("calls", line, t "() is not used here: " forbidden[t])
    if (t == "mmap" && code[line] code[line + 1] code[line + 2] !~ /MAP_ANON/)
        finding("calls", line, "mmap() of a file: a source that shrinks would kill us")
    if (t == "fork")
        f_forks = 1
    # What is forked on the spot may leave, by _exit; else an end is for those who began.
    if (t ~ /^(exit|_exit|_Exit|abort)$/ && room_at[line] !~ /^(13|16|17)$/ && f_name != "bug" &&
        !(t == "_exit" && (f_forks || f_name ~ /_child$/)))
        finding("endings", line, t "() in room " room_at[line] ": only 13, 16, 17 and a child may end a process")
}

# Numbers that say what a name should say.
function literal(t, line)
{
    if (t !~ /^0[xX]/ && t ~ /[.eE]/)
        finding("floats", line, "a floating point number: " t)
    if (length(t) >= 5 && t in limit && room_at[line] > 0)
        finding("limits", line, "the value of " limit[t] " again: " t)
}

function exit_numbers(s, line)
{
    if ((s ~ /(^|[^A-Za-z0-9_])_?exit\([0-9]/ && room_at[line] >= 13) || s ~ /fail_set\([^,]*, *[0-9]/ ||
        s ~ /[.>]code *(=|==|!=) *[0-9]/ || (f_name ~ /^(cli_.*|main)$/ && s ~ /return ([2-9]|[1-9][0-9]+);/))
        finding("exits", line, "an exit code by its number: " s)
}

function token(t, line)
{
    if (is_word(t)) {
        if (!(before == "." || (before == ">" && before2 == "-")))
            named(t, line)
        if (t ~ /^(float|double|_Float.*|__float128)$/)
            finding("floats", line, "a floating point type: " t)
    } else if (t ~ /^\.?[0-9]/) {
        literal(t, line)
    } else if (t == "(" && is_word(before)) {
        called(before, line)
    }
    if (brace == 0) {
        if (t == "{" && !paren) {
            if (d_name != "" && !d_eq) {
                function_starts(line)
            } else if (!d_eq) {
                d_last = ""
            }
            brace = 1
        } else if (t == ";" && !paren) {
            decl_ends(line)
        } else {
            top_token(t, line)
        }
    } else {
        if (f_name != "")
            inner_static(t)
        brace += (t == "{") - (t == "}")
        if (brace == 0 && f_name != "") {
            function_ends(line)
            decl_reset()
        }
    }
    before2 = before
    before = t
    before_line = line
}

function tokens(s, line,    t)
{
    while (match(s, /[A-Za-z_][A-Za-z_0-9]*|\.?[0-9]([A-Za-z_0-9.]|[eEpP][-+])*|[^ \t]/)) {
        t = substr(s, RSTART, RLENGTH)
        s = substr(s, RSTART + RLENGTH)
        token(t, line)
    }
}

# A directive's words are looked at as if they stood in its room; they declare nothing.
function directive_words(s, line,    t)
{
    while (match(s, /[A-Za-z_][A-Za-z_0-9]*|[^ \t]/)) {
        t = substr(s, RSTART, RLENGTH)
        s = substr(s, RSTART + RLENGTH)
        if (is_word(t))
            named(t, line)
    }
}

function name_of(s)
{
    sub(/^# *(define|undef) +/, "", s)
    sub(/[^A-Za-z0-9_].*/, "", s)
    return s
}

function directive_line(s, line,    name)
{
    if (s ~ /^# *(if|ifdef|ifndef|elif)/) {
        # A limit that tests may set, and the one switch of embedding programs, are no features.
        if (s ~ /^# *ifndef [A-Z_]+$/ && code[line + 1] ~ /^# *define/)
            return
        if (s ~ /S3UP_NO_MAIN/)
            return
        if (room_at[line] !~ /^[0235]$/)
            finding("features", line, "a difference between platforms outside of rooms 0, 2, 3 and 5: " s)
        if (room_at[line] !~ /^[235]$/)
            ifs++
    }
    if (s ~ /^# *define / && !(name_of(s) in undefined)) {
        name = name_of(s)
        sub(/^# *define +[A-Za-z0-9_]+/, "", s)
        if (name != "main")
            owned(name, line)
    }
    directive_words(s, line)
}

function nesting(s,    indent)
{
    match(s, /^ */)
    indent = int(RLENGTH / 4)
    if (f_name != "" && substr(s, RLENGTH + 1) ~ /^(if|for|while|do|switch)[ (]/ && indent > deepest) {
        deepest = indent
        deepest_name = f_name
    }
}

BEGIN {
    room = -1
    n = split("sprintf vsprintf strcpy stpcpy strcat strncpy strncat:use a struct buf or snprintf;" \
              "gets scanf sscanf fscanf strtok:use spans;" \
              "atoi atol atoll atof strtol strtoll strtoul strtoull strtod:use num_parse;" \
              "system popen:no shell;" \
              "alloca:the stack has a ceiling that nobody sees;" \
              "realloc:it may leave a secret behind;" \
              "rand srand random drand48:use os_random;" \
              "tmpnam tempnam mktemp tmpfile:use os_replace;" \
              "signal:use sigaction;" \
              "gmtime localtime mktime timegm strftime asctime ctime:use date_;" \
              "setjmp longjmp sigsetjmp siglongjmp:leave by one door;" \
              "pthread_create dlopen:no threads, no plugins", group, ";")
    for (i = 1; i <= n; i++) {
        split(group[i], part, ":")
        m = split(part[1], word, " ")
        for (k = 1; k <= m; k++)
            forbidden[word[k]] = part[2]
    }
    decl_reset()
}

# s3up.h
FNR == NR {
    if (/^ \* +room +prefix/)
        in_map = 1
    else if (/^ \*$/)
        in_map = 0
    else if (in_map)
        map_line($0)
    else if (/^ +X\([A-Z]+, *[0-9]+, *"/)
        exit_line($0)
    next
}

# s3up.c, first time through: what each line is
{
    raw[FNR] = $0
    lines = FNR
    was_comment = in_comment
    if ($0 ~ /^(\/\*| \*) ===== ROOM [0-9]+ /)
        banner($0)
    else if ($0 ~ /=====/)
        finding("rooms", FNR, "this looks like a banner, and is none")
    if (head_note && FNR == head_note + 2 && $0 !~ /^ \* [^ ]/)
        finding("rooms", FNR, "room " room " has no head note")
    room_at[FNR] = room < 0 ? 0 : room
    code[FNR] = strip($0)
    if (code[FNR] ~ /^[ \t]*$/ && $0 !~ /^[ \t]*$/) {
        comment_only[FNR] = 1
        comment_lines++
    }
    if (code[FNR] ~ /^# *define [A-Z_]+ +[0-9]+ *$/ && room == 0) {
        split(code[FNR], word, / +/)
        if (length(word[3]) >= 4)
            limit[word[3]] = limit[word[3]] (limit[word[3]] == "" ? "" : " or ") word[2]
    }
    if (code[FNR] ~ /^# *undef /) # a help for a few lines, which needs no room's sign
        undefined[name_of(code[FNR])] = 1
    directive[FNR] = code[FNR] ~ /^ *#/ || (directive[FNR - 1] && code[FNR - 1] ~ /\\$/)
}

END {
    for (line = 1; line <= lines; line++) {
        if (directive[line]) {
            if (code[line] ~ /^ *#/)
                directive_line(code[line], line)
            else
                directive_words(code[line], line)
            continue
        }
        exit_numbers(code[line], line)
        nesting(code[line])
        tokens(code[line], line)
    }
    for (key in first_named) {
        split(key, word, SUBSEP)
        if (word[1] in home && home[word[1]] > word[2])
            finding("slope", first_named[key], "room " word[2] " names " word[1] " of room " home[word[1]])
    }
    for (key in first_called) {
        split(key, word, SUBSEP)
        prefix = prefix_of(word[1])
        if (!(word[1] in home) && prefix in room_of_prefix && room_of_prefix[prefix] > word[2])
            finding("slope", first_called[key], "room " word[2] " calls " word[1] " of room " room_of_prefix[prefix])
    }
    for (i in map_name)
        if (!(i in seen_room))
            finding("rooms", 1, "room " i " is on the map in s3up.h, but not in s3up.c")
    if (last_function != "main")
        finding("layout", lines, "main is not the last function")
    seen = median = p90 = 0
    for (i = 1; i <= longest; i++) {
        seen += length_count[i]
        if (!median && seen * 2 >= functions)
            median = i
        if (!p90 && seen * 10 >= functions * 9)
            p90 = i
    }
    if (median > 15 || p90 > 50)
        finding("house", 1, "functions are too long: median " median " of 15, p90 " p90 " of 50")
    number("lines", lines)
    number("functions", functions)
    number("median length", median " (15)")
    number("p90 length", p90 " (50)")
    number("longest", longest " (80) " longest_name)
    number("most parameters", most_params " (5)")
    number("deepest nesting", deepest " (3) " deepest_name)
    number("comment lines", int(comment_lines * 100 / lines) "% (15-25%)")
    number("commented functions", int(functions ? commented * 100 / functions : 0) "%")
    number("mutable globals", split(mutable, word, " ") " (" substr(mutable, 2) ")")
    number("#if outside of rooms 2, 3, 5", ifs + 0)
}
