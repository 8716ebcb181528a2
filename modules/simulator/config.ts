// Configuration of the simulated site.

import { z } from 'zod';
import { isLoopbackHost, listenAddressSchema } from '#sdk';

export const simulatorConfig = z
  .strictObject({
    listen: z
      .strictObject({
        address: listenAddressSchema.default('127.0.0.1').meta({
          title: 'Address',
          description:
            'Address to listen on; Modbus knows no passwords, so loopback unless others may switch the relay.',
        }),
        port: z.int().min(1).max(65_535).default(5020).meta({ title: 'Port', description: 'TCP port to listen on.' }),
      })
      .prefault({})
      .meta({ title: 'Listen', description: 'Where the Modbus TCP server of the site listens.' }),
    leaf: z
      .strictObject({
        url: z
          .url({ protocol: /^mqtt$/, error: 'must be a URL such as mqtt://127.0.0.1:1883' })
          .refine((url) => isLoopbackHost(new URL(url).hostname), { error: 'must be a broker on this machine' })
          .meta({ title: 'URL', description: 'The broker that it publishes to, on this machine.' }),
        device_id: z
          .string()
          .regex(/^[A-Za-z0-9_-]{1,64}$/, { error: 'must be 1 to 64 letters, digits, _ or -' })
          .default('greenhouse-1')
          .meta({ title: 'Device id', description: 'Its part of the topics `site/ID/state`, `/online` and `/set`.' }),
      })
      .optional()
      .meta({
        title: 'MQTT leaf device',
        description: 'A greenhouse that publishes every second. Without it there is none.',
      }),
    scale: z
      .strictObject({
        path: z.string().min(1).max(4096).default('site-scale.tty').meta({
          title: 'Path',
          description: 'Link to the pseudo-terminal; below the data directory unless it begins with /.',
        }),
      })
      .optional()
      .meta({ title: 'Scale', description: 'A serial instrument on a pseudo-terminal; needs socat or python3.' }),
  })
  .meta({
    title: 'Simulated site',
    description: 'A Modbus TCP server in a process of its own, with a meter (unit 1) and a tank (unit 2).',
  });

export type SimulatorConfig = z.output<typeof simulatorConfig>;
