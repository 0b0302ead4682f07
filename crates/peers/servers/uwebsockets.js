// Publish and subscribe as uWebSockets has it, in the runtime that ships it: one thread, topics and fan-out in C++.
//
// A socket that follows a topic names it in its address, `/?bench`. One that publishes sends the topic, a space and
// the record. Nothing is dropped: a socket may lag behind by more than a run can send.
const BACKPRESSURE_BYTES_MAX = 1 << 30;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const topic = new URL(request.url).search.slice(1);
    if (server.upgrade(request, { data: { topic } })) return undefined;
    return new Response("a WebSocket is expected\n", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    sendPings: false,
    backpressureLimit: BACKPRESSURE_BYTES_MAX,
    closeOnBackpressureLimit: true,
    maxPayloadLength: 1 << 20,
    open(socket) {
      if (socket.data.topic) socket.subscribe(socket.data.topic);
      socket.send("ready");
    },
    message(_socket, message) {
      const space = message.indexOf(" ");
      server.publish(message.slice(0, space), message.slice(space + 1));
    },
  },
});

console.log(`http://${server.hostname}:${server.port}/`);
