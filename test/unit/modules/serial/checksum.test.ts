import { describe, expect, it } from 'vitest';
import { checkFrame, checksumBytes, type ChecksumSettings } from '../../../../modules/serial/checksum.ts';

const settings = (fields: Partial<ChecksumSettings>): ChecksumSettings => ({
  kind: 'sum8',
  fromByte: 0,
  afterBytes: 0,
  gapBytes: 0,
  encoding: 'binary',
  order: 'big',
  ...fields,
});
const DIGITS = Buffer.from('123456789');

describe('checksums', () => {
  // The check values of the catalogue of parametrised CRC algorithms (CRC-16/MODBUS, /CCITT-FALSE, /XMODEM).
  it.each<[ChecksumSettings['kind'], string]>([
    ['crc16_modbus', '4b37'],
    ['crc16_ccitt', '29b1'],
    ['crc16_xmodem', '31c3'],
    ['sum8', 'dd'],
    ['sum8_complement', '23'],
    ['sum16', '01dd'],
    ['xor8', '31'],
  ])('%s of 123456789 is %s', (kind, hex) => {
    expect(checksumBytes(settings({ kind }), DIGITS).toString('hex')).toBe(hex);
    expect(checksumBytes(settings({ kind, order: 'little' }), DIGITS).toString('hex')).toBe(
      Buffer.from(hex, 'hex').reverse().toString('hex'),
    );
  });

  it('covers what it is told to', () => {
    const sum = settings({ fromByte: 1, gapBytes: 1, afterBytes: 1, encoding: 'hex' });
    expect(checkFrame(sum, Buffer.from('<12*63>'))).toEqual({ payloadEnd: 4 });
    expect(checkFrame(sum, Buffer.from('<13*63>'))).toBeUndefined();
    expect(checkFrame(sum, Buffer.from('<*'))).toBeUndefined();
  });

  it('reads NMEA 0183 as its specification shows it', () => {
    const frame = '$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47';
    expect(checkFrame(settings({ kind: 'nmea' }), Buffer.from(frame))).toEqual({ payloadEnd: frame.length - 3 });
    expect(checkFrame(settings({ kind: 'nmea' }), Buffer.from(frame.replace('4807', '4808')))).toBeUndefined();
    expect(checkFrame(settings({ kind: 'nmea' }), Buffer.from('$GPGGA,1'))).toBeUndefined();
  });
});
