"""From the cells of an experiment to files: plan, executors, storage of results.

plan         from an experiment to its missing runs
owner        the process that owns a results folder: hands out jobs, writes their parts
executor     the contract of an executor; selection chooses one by the command's options
inline, pool, ray, torchrun      the executors
worker, job  the computation of jobs in a process, and of one run
store        the files of a run; documents writes, checks and reads their JSON
locks        who may write to a results folder
devices, options                 devices and precision of this machine; the options of a command that computes
clock, console, status_file      the time left; progress for a terminal, and for `ablation status`
estimate     the cost of runs, from probes
traces       whether a user's classes still compute the numbers of finished runs
"""
