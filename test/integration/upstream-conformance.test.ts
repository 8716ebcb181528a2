// The conformance suite of endpoints on those that need a real peer.

import { createServer } from 'node:net';
import mqtt from 'mqtt';
import { localUpstreamConfig } from '../../modules/upstream-local/config.ts';
import { createLocalTransport } from '../../modules/upstream-local/transport.ts';
import { endpointSuite } from '../conformance/endpoint.suite.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { endpointContext, mqttTransport, subscribe } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.50.4';

for (const protocol_version of ['3.1.1', 5] as const) {
  endpointSuite(`upstream-mqtt ${protocol_version}`, async () => {
    const broker = await startMosquitto({ address: ADDRESS });
    const witness = await subscribe(broker.url);
    return {
      endpoint: mqttTransport({ url: broker.url, protocol_version, window: 16 }),
      arrived: () => witness.texts(),
      stop: () => broker.stop(),
      start: () => broker.start(),
      pause: () => broker.pause(),
      resume: () => broker.resume(),
      [Symbol.asyncDispose]: async () => {
        await witness[Symbol.asyncDispose]();
        await broker[Symbol.asyncDispose]();
      },
    };
  });
}

endpointSuite('upstream-local', async () => {
  const port = await freePort(ADDRESS);
  const endpoint = createLocalTransport(
    localUpstreamConfig.parse({ listen: { address: ADDRESS, port } }),
    endpointContext(),
  );
  const texts: string[] = [];
  const client = mqtt.connect(`mqtt://${ADDRESS}:${port}`, { reconnectPeriod: 20 });
  client.on('error', () => {});
  client.on('message', (_topic, payload) => void texts.push(payload.toString()));
  client.on('connect', () => void client.subscribe('fieldpost/#'));
  // Whoever listens to an embedded broker has to be there: sends wait for the subscription.
  const subscribed = (): Promise<unknown> =>
    new Promise((resolve) => {
      client.once('packetreceive', function look(packet) {
        if (packet.cmd === 'suback') resolve(undefined);
        else client.once('packetreceive', look);
      });
    });
  const squatter = createServer();
  return {
    endpoint: {
      ...endpoint,
      capabilities: endpoint.capabilities,
      open: async (signal) => {
        const there = subscribed();
        await endpoint.open(signal);
        await there;
      },
    },
    arrived: () => texts,
    // It is part of the gateway: it goes away when told to, and stays away while another program has the port.
    stop: async () => {
      await endpoint.close();
      await new Promise<void>((resolve) => {
        squatter.listen(port, ADDRESS, resolve);
      });
    },
    start: async () => {
      await new Promise<void>((resolve) => {
        squatter.close(() => resolve());
      });
      await waitFor(() => !squatter.listening);
    },
    [Symbol.asyncDispose]: async () => {
      await client.endAsync(true);
      squatter.close();
      await endpoint.close();
    },
  };
});
