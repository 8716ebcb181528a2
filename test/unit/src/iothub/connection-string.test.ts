import { describe, expect, it } from 'vitest';
import {
  parseConnectionString,
  writeConnectionString,
  type ConnectionString,
} from '../../../../src/iothub/connection-string.ts';

const KEY = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';

describe('a connection string', () => {
  it.each<[string, ConnectionString]>([
    [
      `HostName=hub.local;DeviceId=d=1;SharedAccessKey=${KEY}`,
      { kind: 'device', hostName: 'hub.local', deviceId: 'd=1', sharedAccessKey: KEY },
    ],
    [
      `HostName=hub.local;DeviceId=d1;ModuleId=m1;SharedAccessKey=${KEY};GatewayHostName=gw`,
      {
        kind: 'device',
        hostName: 'hub.local',
        deviceId: 'd1',
        moduleId: 'm1',
        sharedAccessKey: KEY,
        gatewayHostName: 'gw',
      },
    ],
    ['HostName=hub.local;DeviceId=d1;x509=true', { kind: 'device', hostName: 'hub.local', deviceId: 'd1', x509: true }],
    [
      'HostName=h;DeviceId=d;SharedAccessSignature=SharedAccessSignature sr=h&sig=x%3D&se=1',
      {
        kind: 'device',
        hostName: 'h',
        deviceId: 'd',
        sharedAccessSignature: 'SharedAccessSignature sr=h&sig=x%3D&se=1',
      },
    ],
    [
      `HostName=hub.local;SharedAccessKeyName=service;SharedAccessKey=${KEY}`,
      { kind: 'policy', hostName: 'hub.local', sharedAccessKeyName: 'service', sharedAccessKey: KEY },
    ],
    [
      `Endpoint=sb://hub.local:5672/;SharedAccessKeyName=service;SharedAccessKey=${KEY};EntityPath=hub;UseDevelopmentEmulator=true`,
      {
        kind: 'events',
        host: 'hub.local:5672',
        sharedAccessKeyName: 'service',
        sharedAccessKey: KEY,
        entityPath: 'hub',
        isPlaintext: true,
      },
    ],
  ])('%s is read and written', (text, fields) => {
    expect(parseConnectionString(text)).toEqual(fields);
    expect(writeConnectionString(fields)).toBe(text);
  });

  it('is read in the spelling of C#', () => {
    expect(parseConnectionString('hostname=h; deviceid=d; X509Cert=True;')).toEqual({
      kind: 'device',
      hostName: 'h',
      deviceId: 'd',
      x509: true,
    });
  });

  it.each([
    ['', /no HostName/],
    ['HostName=h', /no SharedAccessKeyName/],
    ['HostName=h;DeviceId=d', /exactly one/],
    [`HostName=h;DeviceId=d;x509=true;SharedAccessKey=${KEY}`, /exactly one/],
    [`DeviceId=d;SharedAccessKey=${KEY}`, /no HostName/],
    [`HostName=h;HostName=i;DeviceId=d;SharedAccessKey=${KEY}`, /HostName twice/],
    [`HostName=h;${KEY.slice(0, -1)}`, /not NAME=VALUE/],
    [`Endpoint=http://h/;SharedAccessKeyName=s;SharedAccessKey=${KEY};EntityPath=e`, /sb:\/\//],
  ])('%s is refused without telling its secrets', (text, why) => {
    expect(() => parseConnectionString(text)).toThrow(why);
    expect(() => parseConnectionString(text)).not.toThrow(/MDEyMzQ1/);
  });
});
