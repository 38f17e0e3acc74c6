#!/bin/bash
#flux: --job-name=first
#flux: --output=candle-jobs/first/scheduler.log
#flux: --nodes=1
#flux: --nslots=1

cd -- /home/me/digits || exit 2
export KERAS_CANDLE_JOB=/home/me/digits/candle-jobs/first
unset KERAS_CANDLE_ELEMENT KERAS_CANDLE_RESTARTS KERAS_CANDLE_JOB_STARTED_S

exec >>"$KERAS_CANDLE_JOB/output.log" 2>&1

python=/home/me/env/bin/python

if ! command -v flux >/dev/null; then
    echo 'candle: the job is requeued by flux, which is not on PATH here (in a container there often is none). Submit it with --requeue-by exit-code or --requeue-by none' >&2
    exit 2
fi

child=
signalled=
pass_on() {
    signalled=$1
    [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null || true
}
trap 'pass_on TERM' TERM INT
trap 'pass_on USR1' USR1
trap 'pass_on USR2' USR2
"$python" -m keras_candle run -np 1 -- train.py --epochs 10 &
child=$!
# A signal that came before there was a child.
[ -z "$signalled" ] || kill -s "$signalled" "$child" 2>/dev/null || true
signalled=1
while [ -n "$signalled" ]; do
    signalled=
    code=0
    wait "$child" || code=$?
done
child=

"$python" -m keras_candle.cluster.requeue "$KERAS_CANDLE_JOB" "$code"
exit
