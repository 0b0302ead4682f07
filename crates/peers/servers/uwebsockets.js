// Publish and subscribe as uWebSockets has it, in the runtime that ships it: one thread, topics and fan-out in C++.
//
// A socket says by its address what it is: `/sub?bench` follows a topic, `/pub?bench` publishes to it whatever it
// sends. Nothing is dropped: a socket may lag behind by more than a run can send.
const BACKPRESSURE_BYTES_MAX = 1 << 30;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const address = new URL(request.url);
    const role = { topic: address.search.slice(1), subscribes: address.pathname === "/sub" };
    if (server.upgrade(request, { data: role })) return undefined;
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
      if (socket.data.subscribes) socket.subscribe(socket.data.topic);
      socket.send("ready");
    },
    message(socket, message) {
      server.publish(socket.data.topic, message);
    },
  },
});

console.log(`http://${server.hostname}:${server.port}/`);
