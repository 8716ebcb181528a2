import { describe, expect, it, vi } from 'vitest';
import { createHubAdmin } from '../../../../src/admin/hub-admin.ts';
import { runHubCommand } from '../../../../src/admin/hub-commands.ts';
import { hubConfig, hubSchema } from '../../../../src/config/hub-schema.ts';
import { HOST, hubRig, refusalOf } from '../../../support/hub.ts';

async function commandLine(settings: object = {}) {
  const rig = await hubRig();
  const config = hubConfig(hubSchema.parse({ enabled: true, ...settings }));
  const hub = createHubAdmin({ hub: () => rig.hub, config: () => config, clock: rig.clock });
  const run = async (...args: readonly string[]): Promise<string> => {
    let text = '';
    await runHubCommand(args, { hub, signal: new AbortController().signal, out: (more) => void (text += more) });
    return text;
  };
  return { ...rig, run };
}

describe('fieldpost hub', () => {
  it('prints connection strings that let their owner in', async () => {
    const { run, hub } = await commandLine({ amqp_port: 5672 });
    await run('identity', 'create', 'd1');
    await run('identity', 'create', 'd1/m1', '--ca');
    const { authentication } = await hub.identities.device('hub', 'd1');
    const key = authentication.type === 'sas' ? authentication.symmetricKey.primaryKey : '';
    expect(await run('connection-string', '--device', 'd1')).toBe(
      `HostName=${HOST};DeviceId=d1;SharedAccessKey=${key}\n`,
    );
    expect(await run('connection-string', '--module', 'd1/m1')).toBe(
      `HostName=${HOST};DeviceId=d1;ModuleId=m1;x509=true\n`,
    );
    const owner = (await hub.policiesOf('hub').all()).find(({ name }) => name === 'iothubowner');
    expect(await run('connection-string')).toBe(
      `HostName=${HOST};SharedAccessKeyName=iothubowner;SharedAccessKey=${owner?.primaryKey}\n`,
    );
    expect(await run('connection-string', '--events')).toMatch(
      new RegExp(`^Endpoint=sb://${HOST}/;SharedAccessKeyName=service;SharedAccessKey=.{44};EntityPath=hub\n$`),
    );
    expect(await run('connection-string', '--events', '--plain')).toMatch(
      /^Endpoint=sb:\/\/localhost:5672\/;.*;EntityPath=hub;UseDevelopmentEmulator=true\n$/,
    );
    expect(await refusalOf(run('connection-string', '--events', '--policy', 'device'))).toBe('InvalidOperation');
    expect(await run('connection-string', '--events', '--policy', 'iothubowner')).toContain('iothubowner');
    await expect(run('connection-string', '--module', 'd1')).rejects.toThrow('ID/MODULE');
    // The port is where the hub is when that is on loopback, else at 127.0.0.1.
    for (const [address, host] of [
      ['127.0.7.1', '127.0.7.1'],
      ['0.0.0.0', 'localhost'],
      ['::1', 'localhost'],
    ] as const) {
      const other = await commandLine({ amqp_port: 5672, address });
      expect(await other.run('connection-string', '--events', '--plain')).toContain(`Endpoint=sb://${host}:5672/;`);
    }
  });

  it('writes identities as they are told', async () => {
    const { run, hub } = await commandLine();
    const print = 'AB'.repeat(32);
    await run('identity', 'create', 'd1', '--thumbprint', print, '--disabled');
    await run('identity', 'update', 'd1', '--enabled', '--reason', 'mended');
    expect(await hub.identities.device('hub', 'd1')).toMatchObject({
      status: 'enabled',
      statusReason: 'mended',
      authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: print } },
    });
    expect(await run('identity', 'list')).toMatch(/^identity .*\nd1 +enabled +selfSigned +Disconnected +never +0\n$/);
    await run('identity', 'delete', 'd1');
    expect(await refusalOf(run('identity', 'show', 'd1'))).toBe('DeviceNotFound');
  });

  it('lists no keys', async () => {
    const { run } = await commandLine();
    await run('identity', 'create', 'd1');
    expect(await run('identity', 'list', '--json')).not.toContain('Key":"');
    expect(JSON.parse(await run('identity', 'list', '--json'))).toMatchObject({ authentication: { type: 'sas' } });
  });

  it('changes twins and sends commands', async () => {
    const { run, hub } = await commandLine();
    await run('identity', 'create', 'd1');
    await run('twin', 'update', 'd1', '--desired', '{"a":1}', '--tags', '{"hall":3}');
    expect(JSON.parse(await run('twin', 'show', 'd1'))).toMatchObject({
      tags: { hall: 3 },
      properties: { desired: { a: 1 } },
    });
    await run('send-c2d', 'd1', 'open', '--property', 'a=b=c', '--ack', 'full', '--message-id', 'm');
    const command = await hub.commands.receive('hub', 'd1');
    expect(command?.message).toMatchObject({ properties: { a: 'b=c' }, ack: 'full', messageId: 'm' });
    expect(Buffer.from(command?.message.body ?? []).toString()).toBe('open');
    expect(await refusalOf(run('invoke-method', 'd1', 'reboot', '{"now":true}'))).toBe('DeviceNotOnline');
    const invoke = vi.spyOn(hub.methods, 'invoke');
    expect(await refusalOf(run('invoke-method', 'd1', 'reboot'))).toBe('DeviceNotOnline');
    expect(Buffer.from(invoke.mock.calls[0]?.[2].payload ?? []).toString()).toBe('null');
  });

  it.each([
    [['nothing']],
    [['identity', 'create']],
    [['identity', 'create', 'a/b/c']],
    [['identity', 'create', 'd1', '--ca', '--primary-key', 'x']],
    [['connection-string', '--device', 'd1', '--events']],
    [['twin', 'update', 'd1', '--desired', '{']],
    [['twin', 'update', 'd1']],
    [['send-c2d', 'd1', 'x', '--ack', 'perhaps']],
    [['invoke-method', 'd1', 'm', '{}', '--timeout', '4']],
    [['monitor-events', '--from', 'yesterday']],
  ])('refuses %j with its usage', async (args) => {
    const { run } = await commandLine();
    await expect(run(...args)).rejects.toMatchObject({
      code: 'GW_USAGE',
      message: expect.stringContaining('Usage:') as unknown,
    });
  });

  it('says that the hub is off', async () => {
    const hub = createHubAdmin({ hub: () => undefined, config: () => undefined, clock: (await hubRig()).clock });
    const ports = { hub, signal: new AbortController().signal, out: () => {} };
    await expect(runHubCommand(['connection-string'], ports)).rejects.toMatchObject({
      code: 'GW_NOT_FOUND',
      message: expect.stringContaining('hub.enabled') as unknown,
    });
  });
});
