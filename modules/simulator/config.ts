// Configuration of the simulated site.

import { z } from 'zod';

export const simulatorConfig = z
  .strictObject({
    listen: z
      .strictObject({
        address: z.string().min(1).default('127.0.0.1').meta({
          title: 'Address',
          description:
            'Address to listen on; Modbus knows no passwords, so loopback unless others may switch the relay.',
        }),
        port: z.int().min(1).max(65_535).default(5020).meta({ title: 'Port', description: 'TCP port to listen on.' }),
      })
      .prefault({})
      .meta({ title: 'Listen', description: 'Where the Modbus TCP server of the site listens.' }),
  })
  .meta({
    title: 'Simulated site',
    description: 'A Modbus TCP server in a process of its own, with a meter (unit 1) and a tank (unit 2).',
  });

export type SimulatorConfig = z.output<typeof simulatorConfig>;
