// Configuration of the broker inside the gateway.

import { z } from 'zod';
import { isLoopbackHost, listenAddressSchema, type ConfigFault } from '#sdk';

export const localUpstreamConfig = z
  .strictObject({
    listen: z
      .strictObject({
        address: listenAddressSchema.default('127.0.0.1').meta({
          title: 'Address',
          description: 'Loopback address to listen on; whoever may connect there may read everything.',
        }),
        port: z.int().min(1).max(65_535).default(18_830).meta({ title: 'Port', description: 'TCP port to listen on.' }),
      })
      .prefault({})
      .meta({ title: 'Listen', description: 'Where the broker listens.' }),
    commands: z.boolean().default(false).meta({
      title: 'Commands',
      description:
        'Whether commands are taken, on `fieldpost/{gateway_id}/{device_id}/command/write`. This broker asks for no password: every program on this machine may then write the points with `writable: true`.',
    }),
  })
  .meta({
    title: 'Local broker',
    description:
      'An MQTT broker inside the gateway, on loopback, for a first look: messages go to whoever subscribes at that moment.',
  });

export type LocalUpstreamConfig = z.output<typeof localUpstreamConfig>;

/** The broker asks nobody for a password, so it never leaves the box. */
export function checkLocalUpstream(config: LocalUpstreamConfig): readonly ConfigFault[] {
  const { address } = config.listen;
  if (isLoopbackHost(address)) return [];
  return [{ path: ['listen', 'address'], message: `must be a loopback address such as 127.0.0.1, not ${address}` }];
}
