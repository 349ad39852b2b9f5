// One event stream for all tabs of this browser that show the same tenant. Browsers allow six connections to a server
// over HTTP/1.1, so at most four are kept: the one looked at longest ago gives way.
const streams = new Map(); // url -> { source, ports, types, last, used, pause, timer }

function open(url, stream) {
  const from = stream.last ? `${url.includes("?") ? "&" : "?"}lastEventId=${stream.last}` : "";
  const source = stream.source = new EventSource(url + from);
  const tell = (message) => stream.ports.forEach((port) => port.postMessage(message));
  source.onopen = () => {
    stream.pause = 0;
    // Something may have happened before the stream was open.
    if (!stream.last) tell({ kind: "stale" });
  };
  source.onerror = () => {
    if (source.readyState !== 2) return; // the browser reconnects by itself
    stream.pause = Math.min((stream.pause || 2500) * 2, 60000);
    stream.timer = setTimeout(() => open(url, stream), stream.pause);
  };
  for (const type of stream.types) {
    source.addEventListener(type, ({ data, lastEventId }) => {
      stream.last = lastEventId || stream.last;
      tell({ kind: "event", type, data, id: lastEventId });
    });
  }
  source.addEventListener("end", () => {
    close(url);
    tell({ kind: "end" });
  });
}

function close(url) {
  const stream = streams.get(url);
  clearTimeout(stream?.timer);
  stream?.source.close();
  streams.delete(url);
}

self.onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data: { kind, url, last, types } }) => {
    let stream = streams.get(url);
    if (kind === "leave") {
      if (stream?.ports.delete(port) && !stream.ports.size) close(url);
      return;
    }
    if (!stream) {
      if (streams.size > 3) close([...streams].reduce((a, b) => (a[1].used < b[1].used ? a : b))[0]);
      stream = { ports: new Set([port]), types, last };
      streams.set(url, stream);
      open(url, stream);
    } else if (!last || +stream.last > +last) {
      port.postMessage({ kind: "stale" });
    }
    stream.ports.add(port);
    stream.used = Date.now();
  };
};
