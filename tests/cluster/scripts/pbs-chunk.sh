#!/bin/bash
#PBS -N first
#PBS -l select=2:system=polaris:mpiprocs=4
#PBS -l place=scatter
#PBS -j oe
#PBS -o candle-jobs/first/
#PBS -l walltime=26:00:00
#PBS -A m1234
#PBS -q regular
#PBS -J 0-5%2
#PBS -r y
#PBS -l filesystems=home

cd -- /home/me/digits || exit 2
export KERAS_CANDLE_JOB=/home/me/digits/candle-jobs/first
unset KERAS_CANDLE_ELEMENT KERAS_CANDLE_RESTARTS KERAS_CANDLE_JOB_STARTED_S

export KERAS_CANDLE_ELEMENT="$PBS_ARRAY_INDEX/6"

exec >>"$KERAS_CANDLE_JOB/output-${KERAS_CANDLE_ELEMENT%%/*}.log" 2>&1

stopped=
trap stopped=1 TERM INT USR1 USR2
module load python
export NCCL_DEBUG=INFO
python=/home/me/env/bin/python
if [ -n "$stopped" ]; then
    "$python" -m keras_candle.cluster.requeue "$KERAS_CANDLE_JOB" 75 not-begun
    exit
fi

if ! command -v qrerun >/dev/null; then
    echo 'candle: the job is requeued by qrerun, which is not on PATH here (in a container there often is none). Submit it with --requeue-by exit-code or --requeue-by none' >&2
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
"$python" -m keras_candle run -np 7 --engine mpi --max-restarts 2 -m digits.train &
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
