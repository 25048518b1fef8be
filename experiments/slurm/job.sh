# What the batch scripts beside it share: a step that saves when its job is about to end, in a job that is queued again.
# shellcheck shell=bash

INTERRUPTED=75 # exit code of a command that has saved and can go on: EX_TEMPFAIL

# step <command> [argument …]
# Runs the command once in each task of the job, and ends the script with its exit code, or queues the job again.
step() {
    local pid="" code=127 status signalled=yes early=""
    # What a site needs in each job, such as `module load cuda`.
    # shellcheck source=/dev/null
    if [ -f experiments/slurm/site.sh ]; then source experiments/slurm/site.sh; fi
    if [ -n "${SLURM_CPUS_PER_TASK-}" ]; then
        export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # which srun does not take from sbatch since SLURM 22.05
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"
    fi
    # Always on as USR1, which srun hands to all processes of the step on all nodes: at TERM it would kill them.
    trap 'signalled=yes; if [ -n "$pid" ]; then kill -USR1 "$pid" 2>/dev/null; else early=yes; fi' USR1 TERM
    # The first task that has saved must not have the others killed before they have; if one failed they wait in vain.
    srun --kill-on-bad-exit=0 --wait=600 "$@" &
    pid=$!
    if [ -n "$early" ]; then kill -USR1 "$pid" 2>/dev/null; fi # it came between these lines
    while [ -n "$signalled" ]; do # a signal ends the waiting, and not the step
        signalled=""
        wait "$pid"
        status=$?
        if [ "$status" != 127 ]; then code=$status; fi # 127: it was known already
    done
    pid=""
    case $code in
        # 128 and the signal's number: it came before the command could listen.
        "$INTERRUPTED" | 138 | 143) queue_again ;;
    esac
    exit "$code"
}

# Queues the job again under its own id, unless SLURM ends it anyway: then it was cancelled, or SLURM queues it again.
queue_again() {
    # The id alone would mean the whole array, where it is that of the array's last task.
    local job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}" restarts="${SLURM_RESTART_COUNT:-0}"
    job="${job:-$SLURM_JOB_ID}"
    case "$(patiently squeue --noheader --job "$job" --format "%T %r")" in
        RUNNING* | *TimeLimit) ;;
        *)
            echo "job $job is being ended by SLURM: it is not queued again here"
            return 1
            ;;
    esac
    if [ "$restarts" -ge "${REQUEUES:-100}" ]; then
        echo "job $job was interrupted, and queued again $restarts times already: it ends here (REQUEUES=${REQUEUES:-100})"
        return 1
    fi
    echo "job $job was interrupted: it is queued again, and goes on in the same run folder"
    patiently scontrol requeue "$job"
}

# A busy controller may not answer at once.
patiently() {
    local try
    for try in 1 2 3 4 5; do
        if "$@"; then return 0; fi
        sleep "$try"
    done
    return 1
}
