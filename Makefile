# s3up: `make` gives ./s3up, one static, stripped binary. No configure step, no root.
#
#   make                              this machine; with musl-gcc if there is one
#   make MUSL_GCC=                    the same, but with musl built from its pinned source
#   make CC=clang                     another compiler (musl is built once for each machine)
#   make CC=mips-linux-gnu-gcc        another machine; flags that choose the CPU go into CC:
#   make CC='arm-linux-gnueabi-gcc -march=armv5te'
#   make install PREFIX=/usr DESTDIR=/some/root
#   make dist                         s3up-VERSION.tar.gz; it builds with no network
#   make clean | distclean            distclean forgets the unpacked sources and musl, too
#
# V=1 shows every command.

# gcc before 12 does not know the first of them.
CFLAGS        := $(shell $(CC) -Oz -E -x c /dev/null >/dev/null 2>&1 && echo -Oz || echo -Os)
BEARSSL_CFLAGS = -Os
LDFLAGS        = -s
WARN           = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
                 -Wvla -Wformat=2 -Wno-unused-function -Werror
PREFIX         = /usr/local
DESTDIR        =

# --- which machine, which libc, where ---

Q = $(if $V,,@)
BEARSSL = vendor/build/bearssl

# Objects live in .build/BOX, one box for each machine and way of building. Flags inside CC
# name it as well: they change the code.
MACHINE := $(shell $(CC) -dumpmachine)
BOX     := $(MACHINE)$(subst =,-,$(subst /,_,$(subst $() ,,$(wordlist 2,99,$(CC)))))
AR       = $(shell $(CC) -print-prog-name=ar)
READELF  = $(shell $(CC) -print-prog-name=readelf)

# musl-gcc wraps the system's own compiler: right only where that was meant, and no flag with it.
MUSL_GCC := $(if $(filter cc gcc,$(subst $() ,_,$(CC))),$(if \
              $(filter $(MACHINE),$(shell musl-gcc -dumpmachine 2>/dev/null)),musl-gcc))

ifneq (,$(findstring musl,$(CC) $(MACHINE)))   # CC brings musl along, and may default to PIE
STATIC_CC := $(CC)
STATIC_LIBS = -no-pie
else ifneq (,$(MUSL_GCC))
STATIC_CC := $(MUSL_GCC)
BOX       := $(BOX)-$(notdir $(MUSL_GCC))
else                                           # any compiler, told where musl is
STATIC_CC := $(CC)
MUSL      := vendor/build/musl-$(BOX)
MUSL_A    := $(MUSL)/lib/libc.a
STATIC_CFLAGS := -nostdinc -isystem $(MUSL)/include -isystem $(shell $(CC) -print-file-name=include)
# Expanded at the link: by then musl's configure has found out how this compiler calls its helpers.
STATIC_LIBS = -nostdlib $(MUSL)/lib/crt1.o $(MUSL)/lib/crti.o -Wl,--start-group $(MUSL_A) \
              $(shell sed -n 's/^LIBCC = *//p' $(MUSL)/config.mak) -Wl,--end-group \
              $(MUSL)/lib/crtn.o
endif

# --- flags ---

# Paths on command lines are relative, and the folder's name is taken out of debug data: the same
# sources give the same bytes, wherever they lie.
COMMON = -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -ffunction-sections -fdata-sections \
         "-fdebug-prefix-map=$(CURDIR)=."
S3UP   = -std=c99 $(COMMON) $(WARN) -isystem $(BEARSSL)/inc

# Nothing here is ever unwound, and code at a fixed address is smaller.
STATIC_CFLAGS += -fno-pie -fno-asynchronous-unwind-tables -fno-unwind-tables
# Two pages less: what is only read need not lie apart from what runs, and nobody carries relro
# out in a static program.
STATIC_LIBS   += -static -Wl,--gc-sections,--build-id=none,-z,noexecstack,-z,norelro,-z,noseparate-code

# --- s3up ---

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all install dist clean distclean FORCE
MAKEOVERRIDES =   # what is asked of s3up's build is not asked of musl's

all: s3up

# Copied whenever it differs, not when it is older: CC may have been another one last time.
s3up: .build/$(BOX)/s3up FORCE
	@cmp -s $< $@ || { cp $< .build/$(BOX)/out && mv -f .build/$(BOX)/out $@; }
	@echo "s3up: static, $(MACHINE), $$(wc -c <$@ | tr -d ' ') bytes stripped"

.build/$(BOX)/s3up: .build/$(BOX)/s3up.o .build/$(BOX)/libbearssl.a $(MUSL_A)
	$(Q)$(STATIC_CC) $(LDFLAGS) -o $@ $(filter-out $(MUSL_A),$^) $(STATIC_LIBS)
	@headers=$$($(READELF) -lW $@) && case $$headers in *INTERP*|*DYNAMIC*) \
		echo "$@ is not static" >&2; exit 1 ;; esac

.build/$(BOX)/s3up.o: s3up.c s3up.h .build/$(BOX)/flags $(MUSL_A)
	$(Q)$(STATIC_CC) $(S3UP) $(CFLAGS) $(STATIC_CFLAGS) -c -o $@ s3up.c

# --- BearSSL, once in each mode ---

# pin.mk says which archive the tree is from. As an included makefile it is made first, and then
# this one is read again: the list of sources is complete even in a fresh clone.
ifneq (,$(filter-out clean distclean,$(or $(MAKECMDGOALS),all)))
$(if $(MACHINE),,$(error '$(CC) -dumpmachine' fails: CC must be gcc, clang or a cross compiler))
include $(BEARSSL)/pin.mk
endif
BEARSSL_SRC := $(sort $(wildcard $(BEARSSL)/src/*.c $(BEARSSL)/src/*/*.c))

$(BEARSSL)/pin.mk vendor/build/musl/pin.mk: vendor/build/%/pin.mk: vendor/PINS vendor/get
	@vendor/get $*

# $1 is a box: $1_CC compiles there, with $1_CFLAGS, once $2 is there. `flags` changes only when
# what it lists does.
define mode
.build/$1/flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$($1_CC) $$(CFLAGS) $$(WARN) $$(BEARSSL_CFLAGS) $$(COMMON) $$($1_CFLAGS)' \
		'$$(PIN_bearssl)' >$$@.new
	@cmp -s $$@.new $$@ && rm $$@.new || mv $$@.new $$@
.build/$1/libbearssl.a: $$(BEARSSL_SRC:$(BEARSSL)/src/%.c=.build/$1/bearssl/%.o)
	@rm -f $$@
	$$(Q)$$(AR) rcsD $$@ $$^
	@echo "$$@: BearSSL, $$(words $$^) files"
.build/$1/bearssl/%.o: $(BEARSSL)/src/%.c .build/$1/flags $2
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) -std=gnu99 -w $$(COMMON) $$(BEARSSL_CFLAGS) $$($1_CFLAGS) \
		-I$(BEARSSL)/src -I$(BEARSSL)/inc -c -o $$@ $$<
endef

$(BOX)_CC     = $(STATIC_CC)
$(BOX)_CFLAGS = $(STATIC_CFLAGS)
native_CC     = $(CC)
asan_CC       = $(CC)
asan_CFLAGS   = -g -O1 -fno-omit-frame-pointer -fsanitize=address
fuzz_CC       = clang
fuzz_CFLAGS   = $(asan_CFLAGS) -fsanitize=fuzzer-no-link

$(eval $(call mode,$(BOX),$(MUSL_A)))
$(foreach m,native asan fuzz,$(eval $(call mode,$m)))

# --- musl, once for each machine ---

# Made aside and named at the end, so what has its name is whole. Its own makefile does the work
# and learns nothing of our flags.
vendor/build/musl-%/lib/libc.a: vendor/build/musl/pin.mk
	@echo "building musl for $*, once"
	@rm -rf $(MUSL) $(MUSL).tmp && mkdir -p $(MUSL).tmp
	@(cd $(MUSL).tmp && ../musl/configure --prefix=/ --disable-shared --disable-wrapper CC='$(CC)' \
		AR='$(AR)' RANLIB='$(shell $(CC) -print-prog-name=ranlib)' \
		CFLAGS= CPPFLAGS= LDFLAGS= LIBCC= CROSS_COMPILE=) >$(MUSL).log 2>&1 && \
	$(MAKE) -C $(MUSL).tmp DESTDIR=out install >>$(MUSL).log 2>&1 || \
		{ tail -n 5 $(MUSL).log >&2; echo "musl: see $(MUSL).log" >&2; exit 1; }
	@mv $(MUSL).tmp/config.mak $(MUSL).tmp/out/ && mv $(MUSL).tmp/out $(MUSL)
	@rm -rf $(MUSL).tmp

# --- tests ---

# A test includes "../s3up.c". Three ways to build one: as the product is built; hostile, by this
# system's compiler and libc with sanitizers, buffers that begin with one byte, and no pauses; and
# with libFuzzer. BearSSL itself is spared UBSan: it reads unaligned words on purpose.
TEST_CFLAGS = $(S3UP) -Wno-missing-prototypes -Itest -g $(LEVEL)
SAN         = -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
HOSTILE     = $(SAN) -DBUF_FIRST=1 -DS3_PAUSE=1
UNITS       = $(basename $(notdir $(wildcard test/unit.c test/sigv4.c test/wire.c test/journal.c)))
FUZZ        = $(basename $(notdir $(filter-out %_main.c,$(wildcard test/fuzz_*.c))))
T           = .build/test
H           = .build/hostile
LEVEL       = -O1
.PHONY: test check hostile fuzz soak interop mutants bench demo

# To optimise these takes longer than they then save.
$T/fuzz_% $H/%: LEVEL = -O0

$T/s3d $H/s3d: test/s3d.c
$T/soak $H/soak: test/soak.c test/kit.h
$T/spool $H/spool: test/spool.c test/kit.h
$T/floor: test/floor.c
$T/pty $H/pty: test/pty.c
$T/s3d $H/s3d $T/soak $H/soak $T/spool $H/spool $T/floor $T/pty $H/pty:
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c99 -O2 -Wall -Wextra -Wshadow -Wconversion -Werror -o $@ $<
$T/s3d-tls: test/s3d.c .build/$(BOX)/libbearssl.a
	@mkdir -p $(@D)
	$(Q)$(STATIC_CC) $(S3UP) -O2 $(STATIC_CFLAGS) -DS3D_TLS -o $@ $< .build/$(BOX)/libbearssl.a $(STATIC_LIBS)
$T/%: test/%.c s3up.c s3up.h $(wildcard test/*.h) .build/$(BOX)/libbearssl.a
	@mkdir -p $(@D)
	$(Q)$(STATIC_CC) $(TEST_CFLAGS) $(STATIC_CFLAGS) -DS3_PAUSE=1 -o $@ $< \
		$(if $(findstring fuzz_,$@),test/fuzz_main.c) .build/$(BOX)/libbearssl.a $(STATIC_LIBS)
$H/%: test/%.c s3up.c s3up.h $(wildcard test/*.h) .build/asan/libbearssl.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(TEST_CFLAGS) $(HOSTILE) -o $@ $< \
		$(if $(findstring fuzz_,$@),test/fuzz_main.c) .build/asan/libbearssl.a
$H/s3up: s3up.c s3up.h .build/asan/libbearssl.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(S3UP) -g -O1 $(HOSTILE) -o $@ $< .build/asan/libbearssl.a
.build/fuzz/%: test/%.c s3up.c s3up.h test/fuzz.h .build/fuzz/libbearssl.a
	$(Q)clang $(TEST_CFLAGS) $(SAN) -fsanitize=fuzzer -o $@ $< .build/fuzz/libbearssl.a

# Suites that talk to a store or a server, for programs built in either way.
talks = $(foreach s,faults proxy tls,$(if $(wildcard test/$s.sh),'$s test/$s.sh $1/call $1/s3d'))
# Uploads at random: always the same 20 seconds of it, and for long with `make soak`.
SEED  = $(shell date +%s)
# Not for leaks: their sanitizer hangs when a signal comes while it looks.
soaks = 'soak env ASAN_OPTIONS=detect_leaks=0 test/soak.sh $1 $2/s3d $2/soak 20 1' \
	'spool env ASAN_OPTIONS=detect_leaks=0 KIND=drain test/soak.sh $1 $2/s3d $2/soak 20 1'

# Suites that drive the whole program $1, built in either way, beside the store in $2. Looking for leaks
# takes half the time of a short run; where there are thousands of them, other suites do it.
runs  = $(foreach s,e2e resume tree,'$s env ASAN_OPTIONS=detect_leaks=0 test/$s.sh $1 $2/s3d') \
	$(foreach s,objects drain,'$s test/$s.sh $1 $2/s3d') \
	'fetch env SOAK=$2/soak test/fetch.sh $1 $2/s3d' 'streams test/streams.sh $1 $2/s3d $2/pty' $(call soaks,$1,$2)

test: s3up $T/s3d $T/soak $T/spool $T/pty $T/call $(UNITS:%=$T/%) $(FUZZ:%=$T/%)
	@test/run.sh $(call talks,$T) $(call runs,./s3up,$T) $(foreach p,$(UNITS) $(FUZZ),'$p $T/$p')

# Asked for together, one builds while the other tests, but they do not test side by side.
hostile: | $(filter check,$(MAKECMDGOALS))
hostile: $H/s3up $H/s3d $H/soak $H/spool $H/pty $H/call $(UNITS:%=$H/%) $(FUZZ:%=$H/%) $(if $(wildcard test/hostile.c),$H/hostile)
	@test/run.sh $(call talks,$H) $(call runs,$H/s3up,$H) $(foreach p,$(UNITS) $(FUZZ),'$p $H/$p') \
		$(if $(wildcard test/hostile.c),'hostile $H/hostile')

check: s3up
	@CC='$(CC)' CPPFLAGS='-isystem $(BEARSSL)/inc' test/run.sh 'slope-self test/slope.sh --self-test' \
		'slope test/slope.sh' 'warnings test/warnings.sh' 'vendor test/vendor.sh' 'dist test/dist.sh' \
		$(if $(wildcard test/cross.sh),'cross test/cross.sh')
	@CPPFLAGS='-isystem $(BEARSSL)/inc' test/slope.sh | grep '^  '

# One minute for each target; MINUTES=30 make fuzz for the night.
MINUTES = 1
fuzz: $(FUZZ:%=.build/fuzz/%)
	@test/run.sh $(foreach f,$(FUZZ),'$f test/fuzz.sh .build/fuzz/$f $(MINUTES)')

# One minute, of another seed each time; MINUTES=60 SEED=7 make soak.
soak: s3up $T/s3d $T/soak $T/spool
	@test/soak.sh ./s3up $T/s3d $T/soak $$(($(MINUTES) * 60)) $(SEED)

# Second opinions: other programs' signatures and sums, real stores and clients, which are
# installed first where that may be done, and the test store's own test. Who has Go, and minutes to
# spare, gives it a MinIO once: test/interop/run.sh -i minio
interop: s3up $T/s3d $T/s3d-tls $(if $(wildcard test/oracle.c),$T/oracle)
	@test/interop/run.sh -i rgw swift s3d
	@test/run.sh $(foreach s,swift rgw minio s3d,'$s test/interop/run.sh $s') \
		$(if $(wildcard test/oracle.py),'oracle test/oracle.sh $T/oracle') 's3d-self test/s3d_test.sh $T/s3d'

# Breaks s3up.c in one place at a time: each break must make a test fail.
mutants: .build/native/libbearssl.a
	@CC='$(CC)' test/mutants.sh $<

# Prints, and never judges: the table of numbers, beside what other programs need in the same
# run. ROWS='small kill' make bench for some of it.
ROWS = size wire small drain memory kill link build
bench: s3up $T/s3d $T/s3d-tls $T/soak $T/call $T/floor
	@for row in $(ROWS); do test/bench_$$row.sh ./s3up $T || exit; done

demo: s3up $T/s3d
	@test/demo.sh ./s3up $T/s3d

# --- install, dist, clean ---

install: s3up
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 s3up "$(DESTDIR)$(PREFIX)/bin/s3up"

# What git tracks, or what an unpacked archive came with (.manifest), and the archives of BearSSL
# and musl. The same tree gives the same bytes. Needs GNU tar; building from it does not.
NAME = s3up-$(shell sed -n 's/^\#define S3UP_VERSION "\(.*\)"/\1/p' s3up.h)
dist:
	@[ $(NAME) != s3up- ] || { echo "s3up.h does not define S3UP_VERSION" >&2; exit 1; }
	@rm -rf .build/dist && mkdir -p .build/dist/$(NAME)
	@if [ -e .git ]; then git ls-files >.build/dist/list; else cp .manifest .build/dist/list; fi
	@LC_ALL=C sort .build/dist/list >.build/dist/$(NAME)/.manifest
	@vendor/get -a bearssl musl >>.build/dist/list
	@tar -cf .build/dist/tar -T .build/dist/list && tar -xf .build/dist/tar -C .build/dist/$(NAME)
	@cd .build/dist && tar --format=ustar --sort=name --mtime=@946684800 --owner=0 --group=0 \
		--numeric-owner --mode=u=rwX,go=rX -cf tar $(NAME) && gzip -n -9 <tar >$(NAME).tar.gz
	@mv -f .build/dist/$(NAME).tar.gz . && rm -rf .build/dist && echo $(NAME).tar.gz

clean:
	rm -rf .build s3up

distclean: clean
	rm -rf vendor/build
