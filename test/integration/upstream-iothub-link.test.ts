// The AMQP transport to IoT Hub on a bad link to the local hub.

import { BAD_LINK_WINDOW, badLinkSuite, type BadLinkRig } from '../conformance/bad-link.suite.ts';
import { iotHubRig } from '../support/iothub-upstream.ts';

const create = async (): Promise<BadLinkRig> => {
  const rig = await iotHubRig('127.0.163.3', 'amqp');
  return {
    transport: rig.transport({ window: BAD_LINK_WINDOW, keepalive_secs: 5 }),
    proxy: rig.proxy,
    arrived: () => rig.hub.stored.map(({ body }) => Buffer.from(body).toString()),
    [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose](),
  };
};

badLinkSuite('upstream-iothub over AMQP', create, true);
