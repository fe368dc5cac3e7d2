"""Model hosts: processes that load and run models, apart from the front, which has the network and the keys.

    front (InferenceApp, Engine, Lane)                      model host, one for each trust group
    groups.ModelHosts      the trust group of a package
    model_host.ModelHost   starts, kills, restarts it  ───  process: confines itself, then
    runs.HostedModel       its interface for a Lane        worker: loads packages, runs models
    dispatcher.Dispatcher  sends runs, reads answers
    connection.Connection  one run at a time           ───  a thread each
    tensors in shared memory (memory.py), messages by a Unix socket (channel.py)

A host is not trusted: the front validates its messages before it uses them.
"""
