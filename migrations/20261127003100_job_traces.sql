-- The trace in which a job was enqueued (W3C Trace Context): running it goes on with it.
ALTER TABLE jobs
    ADD COLUMN traceparent text CHECK (length(traceparent) = 55),
    ADD COLUMN tracestate text CHECK (length(tracestate) BETWEEN 1 AND 512);
