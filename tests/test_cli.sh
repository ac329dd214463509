#!/usr/bin/env bash
# The slope command as a stranger uses it: right uses, every wrong use, interruptions, full disks.
#   test_cli.sh SLOPE     the path of the command
set -u
export LC_ALL=C.UTF-8
unset SLOPE_ISA SLOPE_DATA_DIR
export SLOPE_DATA_MIRROR=off
slope=$(realpath "$1")
manual=$(realpath "$(dirname "$0")")/../docs/slope.1
recipes=$(realpath "$(dirname "$0")/../recipes")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export XDG_CACHE_HOME=$folder/cache
failures=0
many=4000 rounds='1 2 3' # images of a run that is long enough to be stopped, and how often it is begun
if [ -n "${SLOPE_TEST_QUICK-}" ]; then many=1000 rounds=1; fi
small="--data digits --limit-train 600 --limit-test 200 --batch 50"

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# refuse STATUS "part of the sentence" arguments… : one sentence on standard error, nothing on standard output
refuse() {
    local want=$1 part=$2 got lines
    shift 2
    "$slope" "$@" >out 2>err </dev/null
    got=$?
    lines=$(wc -l <err)
    [ $got = "$want" ] || fail "slope $*: status $got, not $want: $(head -2 err)"
    grep -qF -- "$part" err || fail "slope $*: '$part' is not in: $(cat err)"
    [ "$lines" = 1 ] || fail "slope $*: $lines lines instead of one sentence: $(cat err)"
    [ -s out ] && fail "slope $*: standard output is not empty"
}

# accept arguments… : status 0
accept() {
    "$slope" "$@" >out 2>err </dev/null || fail "slope $*: status $?: $(cat err)"
}

has() { # FILE TEXT
    grep -qF -- "$2" "$1" || fail "'$2' is not in $1: $(head -5 "$1")"
}

same() {
    cmp -s "$1" "$2" || fail "$3: $1 and $2 differ"
}

# --- right uses ---
accept --version; has out "slope 0"
accept --help; has out "Usage: slope COMMAND"
for command in train compare eval predict info diverge plot card bench; do
    accept $command --help; has out "Usage: slope $command"; has out "--help"
    accept help $command; has out "Usage: slope $command"
    [ "$("$slope" $command --help | awk 'length > m { m = length } END { print (m > 80) }')" = 0 ] ||
        fail "the help of $command is wider than 80 columns"
done

# --- the manual says what the help says ---
sed 's/\\-/-/g; s/^\.BI\? //; s/"\( [A-Z]*\)"$/\1/; s/  */ /g' "$manual" >manual
for command in train compare eval predict info diverge plot card bench; do
    "$slope" $command --help | awk '/^  --/ { if (text) print text; sub(/^  /, ""); text = $0; next }
        /^ / && text { sub(/^ +/, ""); text = text " " $0; next } text { print text; text = "" } END { if (text) print text }' |
        sed 's/  */ /g' >listed
    [ -s listed ] || fail "no option is listed in the help of $command"
    while read -r line; do
        name=$(sed -E 's/^(--[a-z0-9-]+( [A-Z]+\b)?) .*/\1/' <<<"$line")
        grep -A1 -xF -- "$name" manual | tail -1 | grep -qxF -- "${line#"$name" }" || fail "the manual says otherwise: $line"
    done <listed
done

accept train $small --epochs 2 --out good.safetensors --log good.jsonl
has out accuracy; has out fingerprint; has out good.safetensors
has err "not MNIST"; has err "no --validation was given"
[ "$(wc -l <good.jsonl)" = 3 ] || fail "the log has $(wc -l <good.jsonl) lines"
for key in slope model activation parameters device threads seed precision optimizer rate batch data; do
    head -1 good.jsonl | grep -q "\"$key\":" || fail "the log does not tell $key"
done
head -1 good.jsonl | grep -q '"rate":0.001,' || fail "the log tells another rate than 0.001"
head -1 good.jsonl | grep -q '"data":"synthetic digits"' || fail "the log names other data"
for key in epoch train_loss train_accuracy validation_loss validation_accuracy seconds samples_per_second fingerprint; do
    tail -1 good.jsonl | grep -q "\"$key\":" || fail "an epoch's line lacks $key"
done
tail -1 good.jsonl | grep -qE '"fingerprint":"[0-9a-f]{16}"' || fail "the fingerprint is not 16 hexadecimal digits"
fingerprint=$(tail -1 good.jsonl | sed 's/.*fingerprint":"//; s/".*//')
has out "$fingerprint"
accept train $small --epochs 1 --quiet; [ -s err ] && fail "--quiet is not quiet: $(cat err)"
accept train $small --epochs 1 --validation 100 --schedule "plateau(patience=1)"
has err "100 training images held out"; has err "500 training images"; has out validation; has out "test"
accept train $small --epochs 1 --schedule plateau; has err "no longer unseen"
accept train $small --epochs 1 --activation step; has err "step_ste learns"
accept train $small --epochs 1 --model "dense20 step dense10"; has err "step_ste learns"
accept train $small --epochs 1 --activation step_ste; grep -q "step_ste learns" err && fail "step_ste is warned of"
accept train $small --epochs 1 --check-gradients --model 'lstm9 dense10'; has err "lstm1.recurrent          agrees in 25 elements"
accept train $small --epochs 1 --diagnose --log diagnosed.jsonl; has out "gradient norm  update ratio"; has diagnosed.jsonl '"diagnosis":[{'; has diagnosed.jsonl '"update_ratio":'
accept train $small --epochs 1 --l2 1e-4 --model "dense20~0.01 act res( dense20 ) dense10" --out l2.safetensors
accept info l2.safetensors; has out "dense20~0.01 act res( dense20~0.0001 ) dense10~0.0001"
accept eval good.safetensors --data digits --limit-test 200; has out accuracy; has out "200 test images"; has out "$fingerprint"
accept eval good.safetensors --data digits --limit-test 200 --json; has out '"count":200'
accept info; has out "zlib"; has out "digits"
accept info good.safetensors; has out dense1.weight; has out "101 770"; has out "$fingerprint"
accept info cnn; has out "1 200 330"; has out "24.18 M"
accept info lenet --plan --device cpu; has out "plan on cpu"; has out "batch 128"; has out "update"
if "$slope" info | grep -q "cuda *simulated"; then
    accept info mlp --device cuda --batch 20; has out "plan on cuda"; has out "batch 20"; has out " launches, "
fi
accept predict good.safetensors --data digits --index 0 --top 3; has out "class"
accept predict good.safetensors --data digits --index 0 --json; has out '"label":'

# --- pictures: a bar on black, on white, of another size ---
bar() { # WIDTH HEIGHT INK PAPER
    echo "P2 # a comment"; echo "$1 $2"; echo 255
    awk -v w="$1" -v h="$2" -v ink="$3" -v paper="$4" 'BEGIN { for (y = 0; y < h; y++) for (x = 0; x < w; x++)
        print (x > w * .44 && x < w * .56 && y > h * .15 && y < h * .85) ? ink : paper }'
}
bar 28 28 255 0 >bar.pgm
bar 28 28 0 255 >white.pgm
bar 56 56 255 0 >large.pgm
accept predict good.safetensors bar.pgm --json; cp out bar.json; [ -s err ] && fail "a message about a picture that fits: $(cat err)"
accept predict good.safetensors white.pgm --json; same out bar.json "an inverted picture"; has err inverted
accept predict good.safetensors large.pgm --json; has err "scaled from 56 x 56 to 28 x 28"
{ printf 'P5 28 28 255\n'; awk 'NR > 3' bar.pgm | sed 's/^0$/\\000/; s/^255$/\\377/' | tr -d '\n' | xargs -0 printf; } >binary.pgm
accept predict good.safetensors binary.pgm --json; same out bar.json "a binary PGM"
if "$slope" info | grep -q "libpng *yes"; then
    # 8 x 8, grey and transparency: black ink on nothing
    base64 -d >ink.png <<'END'
iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAQAAABuBnYAAAAAEklEQVR42mNgwAH+AyHtBeAAACeLC/V2kvbVAAAAAElFTkSuQmCC
END
    accept predict good.safetensors ink.png --json; has err inverted; has err "from 8 x 8"
    head -c 50 ink.png >cut.png
    refuse 1 "cut.png" predict good.safetensors cut.png
fi
head -c 400 binary.pgm >cut.pgm
echo "P5 99999 99999 255" >huge.pgm
echo "P2 4 x" >header.pgm
refuse 1 "cut.pgm: pixel" predict good.safetensors cut.pgm
refuse 1 "huge.pgm" predict good.safetensors huge.pgm
refuse 1 "header.pgm: the PGM header is malformed" predict good.safetensors header.pgm
refuse 1 "neither a PNG nor a PGM" predict good.safetensors good.jsonl
refuse 1 "nofile.png: No such file" predict good.safetensors nofile.png
refuse 2 "which image?" predict good.safetensors
refuse 2 "exclude each other" predict good.safetensors bar.pgm --index 1
refuse 2 "--index is 10000" predict good.safetensors --data digits --index 10000 --quiet

# --- wrong words ---
refuse 2 "there is no command 'trian'; did you mean train?" trian
refuse 2 "there are train, eval" frobnicate
refuse 2 "did you mean --epochs?" train --epohcs 3
refuse 2 "--clip-norm, --clip-value" train --clip 3
refuse 2 "there is no option --index" eval good.safetensors --index 3
refuse 2 "--exact takes no value" train --exact=yes
refuse 2 "--epochs needs a value" train --epochs
refuse 2 "'lenet' is no option" train lenet
for value in 0 -1 1.5 1e2 "" " 3" 3x 1048577 99999999999999999999; do refuse 2 "--batch" train --batch "$value"; done
refuse 2 "from 1 to 1048576" train --batch 0
for value in nan inf -inf -0.1 0x1 1e999 1e-60 "0,1" 0.1x; do refuse 2 "--rate" train --rate "$value"; done
refuse 2 "must be a whole number from 1 to 1000000" train --epochs -3
refuse 2 "below 1" train --momentum 1
refuse 2 "above 0" train --clip-norm 0
refuse 2 "Did you mean relu?" train $small --quiet --activation rlu
refuse 2 "leaky_relu" train $small --quiet --activation "leaky_relu(-y)"
refuse 2 "character 3: there is no function 'tanhh'; there are" train $small --quiet --activation "x*tanhh(x)"
refuse 2 "character 5: a division by zero" train $small --quiet --activation "x*(1/0)"
refuse 2 "Did you mean adam?" train $small --quiet --optimizer adma
refuse 2 "Did you mean cosine?" train $small --quiet --schedule cosin
refuse 2 "there is no initialiser 'hee'" train $small --quiet --init hee
refuse 2 "--device is 'gpu'" train $small --device gpu
refuse 2 "--precision is 'fp8'" train $small --precision fp8
refuse 2 "exclude each other" train $small --precision bf16 --exact
refuse 2 "did you mean mnist?" train --data mnits
refuse 2 "Did you mean lenet?" train $small --quiet --model lente
refuse 2 "Did you mean lenet?" info lente
refuse 2 "--validation 600" train $small --quiet --validation 600

# --- models that do not fit; the old log and the old file stay ---
cp good.jsonl old.jsonl; cp good.safetensors old.safetensors
for line in "pool40 dense10" "dense20 conv3-4 dense10" "conv3-0 dense10" "dense10 )" "drop2 dense10" "dense5" "frob dense10"; do
    refuse 2 "" train $small --quiet --model "$line" --log old.jsonl --out old.safetensors
done
refuse 2 "40×40 window does not fit" train $small --quiet --model "pool40 dense10"
refuse 2 "a convolution needs images" train $small --quiet --model "dense20 conv3-4 dense10"
refuse 2 "end it with dense10" train $small --quiet --model dense5

# --- recipes ---
recipe() { printf '%s\n' "$@" >recipe.txt; }
recipe '# comes before all options' 'model   dense16 act dense10   # two layers' '' '  activation	swish(learn)' 'rate 0.01' 'exact' \
    'limit-train 200' $'batch 40\r'
accept train $small --epochs 2 --quiet --recipe recipe.txt --batch 50 --limit-train 600 --out from_recipe.safetensors
accept train $small --epochs 2 --quiet --model "dense16 act dense10" --activation "swish(learn)" --rate 0.01 --exact \
    --out from_options.safetensors
same from_recipe.safetensors from_options.safetensors "a recipe behind options"
accept train --recipe recipe.txt --data digits --limit-test 50 --epochs 1; has err "200 training images"
accept diverge --data digits --steps 3 --quiet --recipe recipe.txt --a "--batch 20" --b "--recipe recipe.txt --batch 20"
has out "equal: 3 steps"
refuse 2 "--recipe nofile: No such file" train --recipe nofile
refuse 2 "--recipe .: Is a directory" train --recipe .
while IFS='|' read -r line part; do
    recipe 'epochs 1' "$line"
    refuse 2 "recipe.txt, line 2: $part" train $small --recipe recipe.txt
done <<'END'
rate x|--rate is 'x'; it must be a number
batch|--batch needs a value
exact yes|--exact takes no value
epochs 2|epochs is set a second time
batc 2|'batc' is cut; a recipe needs the whole name, batch
rtae 0.1|there is no option --rtae; did you mean --rate?
clip 1|--clip is ambiguous
out x|a recipe has no option out
recipe x|a recipe has no option recipe
--rate 0.1|expected an option's name without dashes
rate=0.1|expected an option's name without dashes
END
recipe '# nothing'; refuse 2 "--recipe recipe.txt: it sets no option" train --recipe recipe.txt
printf 'rate 0.1\0' >recipe.txt; refuse 2 "this is no text file" train --recipe recipe.txt
head -c 70000 /dev/zero | tr '\0' '#' >recipe.txt; refuse 2 "too large for a recipe" train --recipe recipe.txt
for recipe in "$recipes"/*.txt; do # as they are delivered
    accept train --recipe "$recipe" $small --limit-train 100 --epochs 1 --quiet
done

# --- files ---
mkdir a_folder idx
refuse 1 "cannot read nofile" eval nofile
refuse 1 "it is a folder" eval a_folder
refuse 1 "not a safetensors file" eval good.jsonl
refuse 1 "cannot read nofile.safetensors" info nofile.safetensors
refuse 2 "there is no such file" info nofile
refuse 1 "nothing.safetensors" train $small --resume nothing.safetensors
refuse 1 "there is no folder ./nowhere" train $small --out ./nowhere/x.safetensors
refuse 1 "is a folder" train $small --out a_folder
refuse 1 "is a folder" train $small --log a_folder
refuse 1 "there is no folder nowhere" train $small --log nowhere/x.jsonl
refuse 1 "no data set in ./idx" train --data ./idx
refuse 1 "kmnist is not on this machine" train --data kmnist
echo "this is no gzip" >idx/train-images-idx3-ubyte.gz; cp idx/train-images-idx3-ubyte.gz idx/train-labels-idx1-ubyte.gz
refuse 1 "idx/train-images-idx3-ubyte.gz" train --data ./idx
head -c 20000 good.safetensors >cut.safetensors
refuse 1 "cut.safetensors" eval cut.safetensors --data digits
if [ -e /dev/full ]; then
    refuse 1 "the log /dev/full cannot be written: No space left" train $small --quiet --log /dev/full --out old.safetensors
    "$slope" info >/dev/full 2>err; [ $? = 1 ] || fail "a full standard output is no failure"; has err "standard output"
fi
# a disk that fills up while the model is saved: the old file stays, and nothing else is left behind
(ulimit -f 100; trap '' XFSZ; exec "$slope" train $small --epochs 1 --quiet --out old.safetensors >out 2>err)
[ $? = 1 ] || fail "a file that could not be written is no failure"
has err "cannot write"; [ "$(wc -l <err)" = 1 ] || fail "more than a sentence about a full disk: $(cat err)"
same good.safetensors old.safetensors "after failures"
same good.jsonl old.jsonl "after failures"
ls | grep -F .tmp. && fail "a temporary file was left behind"

# a run that explodes saves nothing
refuse 1 "the loss is no longer finite" train $small --quiet --model "dense64 linear dense64 linear dense10" \
    --optimizer sgd --rate 1e5 --out old.safetensors
same good.safetensors old.safetensors "after NaN"

# --- every option does something: each run ends elsewhere ---
: >ends
while read -r options; do
    accept train --data digits --limit-train 100 --limit-test 20 --batch 25 --epochs 2 --model "dense16 act dense10" --quiet $options
    grep fingerprint out >>ends
done <<'END'

--activation tanh
--batch 20
--clip-norm 0.1
--clip-value 1e-3
--epochs 3
--init xavier
--l2 0.01
--limit-train 90
--momentum 0.5 --optimizer momentum
--optimizer momentum
--optimizer sgd
--rate 0.01
--rate 0
--schedule cosine
--seed 3
--validation 30
--weight-decay 0.1
END
[ "$(sort -u ends | wc -l)" = 18 ] || fail "two of these runs end with the same parameters: $(sort ends | uniq -d)"

# --- the same bytes: twice, for any number of threads, on any instruction set ---
run="--device cpu --data digits --limit-train 150 --limit-test 50 --batch 40 --epochs 2 --quiet --model lenet --activation swish"
accept train $run --out one.safetensors
for threads in 1 2 3; do
    accept train $run --threads $threads --out other.safetensors; same one.safetensors other.safetensors "$threads threads"
done
for isa in plain avx2 avx512; do
    if SLOPE_ISA=$isa "$slope" info 2>/dev/null | grep -q "cpu *$isa"; then
        SLOPE_ISA=$isa accept train $run --out other.safetensors; same one.safetensors other.safetensors $isa
    fi
done
accept train $run --exact --out other.safetensors; same one.safetensors other.safetensors "--exact"
accept train $run --seed 2 --out other.safetensors; cmp -s one.safetensors other.safetensors && fail "another seed gives the same bytes"
SLOPE_ISA=frob refuse 1 "SLOPE_ISA=frob" train $run

# --- kill and resume ---
long="--device cpu --data digits --limit-train $many --limit-test 100 --batch 20 --epochs 3 --model lenet
      --schedule plateau(patience=1,factor=0.5) --clip-norm 1 --threads 1 --quiet"
accept train $long --out whole.safetensors --log whole.jsonl
stops=0
for round in $rounds; do
    rm -f part.safetensors part.jsonl
    resume=
    for signal in INT TERM INT TERM INT TERM none; do
        if [ $signal = none ]; then
            accept train $long $resume --out part.safetensors --log part.jsonl
            break
        fi
        "$slope" train $long $resume --out part.safetensors --log part.jsonl >out 2>err &
        process=$!
        sleep 0.$((RANDOM % 25 + 10))
        kill -$signal $process 2>/dev/null
        wait $process
        status=$?
        [ $status = 0 ] && break
        [ $status = 143 ] && [ ! -e part.safetensors ] && continue # it had not even begun
        [ $status = 1 ] || fail "interrupted training ended with status $status: $(cat err)"
        has err "interrupted after"; has err "--resume part.safetensors"
        accept info part.safetensors
        stops=$((stops + 1))
        resume="--resume part.safetensors"
    done
    same whole.safetensors part.safetensors "after interruptions"
    accept diverge whole.jsonl part.jsonl
done
[ $stops -gt 0 ] || echo "note: no interruption came in time on this machine" >&2

# without --out there is a file all the same; then all other options come from it
rm -f slope-interrupted.safetensors
"$slope" train $long >out 2>err &
process=$!
sleep 0.1
kill -INT $process
wait $process
if [ $? = 1 ]; then
    has err "slope-interrupted.safetensors"
    cp slope-interrupted.safetensors stopped.safetensors
    part="--data digits --limit-train $many --limit-test 100 --quiet --resume slope-interrupted.safetensors"
    accept train $part --out resumed.safetensors
    same whole.safetensors resumed.safetensors "options from the file"
    refuse 1 "--batch does not fit" train $part --batch 30
    refuse 1 "--rate does not fit" train $part --rate 0.5
    refuse 1 "--schedule does not fit" train $part --schedule cosine
    refuse 1 "--l2 does not fit" train $part --l2 0.1
    refuse 1 "--seed does not fit" train $part --seed 7
    refuse 1 "--activation does not fit" train $part --activation tanh
    refuse 1 "give the same --data" train --data digits --limit-train 300 --quiet --resume slope-interrupted.safetensors
    same stopped.safetensors slope-interrupted.safetensors "after refusals"
fi
refuse 1 "--model does not fit good.safetensors" train $small --quiet --resume good.safetensors --model lenet
refuse 1 "--optimizer does not fit" train $small --quiet --resume good.safetensors --optimizer sgd
accept train $small --quiet --epochs 1 --resume good.safetensors --rate 0.0001 --log good.jsonl
[ "$(wc -l <good.jsonl)" = 4 ] || fail "--resume did not append one line to the log"
tail -1 good.jsonl | grep -q '"epoch":3,' || fail "the resumed run does not count on"

# --- diverge ---
few="--data digits --limit-train 600 --batch 50"
accept diverge one.safetensors one.safetensors; has out "all parameters and statistics are equal"
"$slope" diverge one.safetensors other.safetensors >out; [ $? = 1 ] || fail "two models that differ: status is not 1"
has out "first difference: conv1.weight [0, 0, 0, 0]"
"$slope" diverge one.safetensors good.safetensors >out; [ $? = 1 ] || fail "two networks: status is not 1"
has out "different networks"
"$slope" diverge old.jsonl good.jsonl >out; [ $? = 1 ] || fail "a longer log: status is not 1"
has out "the 2 epochs in both logs are equal"
"$slope" diverge whole.jsonl good.jsonl >out; [ $? = 1 ] || fail "two logs that differ: status is not 1"
has out "from epoch 1 on"
tiny() { accept diverge --data digits --limit-train 60 --batch 20 --epochs 2 --model "conv5-2 act pool2 drop.25 dense10" --quiet "$@"; }
tiny --a "SLOPE_ISA=plain --threads 1" --b "--threads 3"; has out "equal: 6 steps"
tiny --a "" --b "--exact" --steps 2; has out "equal: 2 steps"
"$slope" diverge $few --a "--clip-norm 1e-3" --b "--clip-norm 2e-3" >out 2>err; [ $? = 1 ] || fail "two clippings: status is not 1"
has out "step 1, node clip_scale"
"$slope" diverge $few --a "--optimizer sgd" --b "--optimizer momentum" >out 2>err; [ $? = 1 ] || fail "two optimisers: status is not 1"
has out "step 2, the update"
"$slope" diverge $few --a "--seed 1" --b "--seed 2" >out 2>err; has out "before the first step"
refuse 2 "two model files, two logs" diverge one.safetensors
refuse 2 "is a model file and" diverge one.safetensors good.jsonl
echo "{ broken" >broken.jsonl
refuse 1 "broken.jsonl: line 1 is no JSON object" diverge broken.jsonl good.jsonl --quiet
refuse 2 "in --a: --rate" diverge --a "--rate x"
refuse 2 "neither an option nor NAME=VALUE" diverge $few --quiet --a frob

[ $failures = 0 ] || exit 1
echo "all fine ($stops interruptions)"
