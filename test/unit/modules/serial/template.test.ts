import { describe, expect, it } from 'vitest';
import { parseTemplate } from '../../../../modules/serial/template.ts';

const XOR = { kind: 'xor8', fromByte: 0, afterBytes: 0, gapBytes: 0, encoding: 'hex', order: 'big' } as const;

function render(template: Parameters<typeof parseTemplate>[0], value?: number | string | boolean | bigint): string {
  const parsed = parseTemplate(template);
  if (typeof parsed === 'string') return parsed;
  const fields = { address: Buffer.from('07'), checksum: XOR, ...(value === undefined ? {} : { value }) };
  const bytes = parsed.render(fields);
  return typeof bytes === 'string' ? `refused: ${bytes}` : bytes.toString('latin1');
}

describe('templates', () => {
  it.each<[string, number | string | boolean | bigint, string]>([
    ['S{value}\r', 1.5, 'S1.5\r'],
    ['{{{value}}}', true, '{1}'],
    ['{value:06.2f}', 12.5, '012.50'],
    ['{value:06.2f}', -12.5, '-12.50'],
    ['{value:4d}', 7, '   7'],
    ['{value:04X}', 255, '00FF'],
    ['{value:s}', 'RUN', 'RUN'],
    ['{value:d}', 2n ** 60n, String(2n ** 60n)],
    ['#{address}{checksum}', 0, '#0724'],
  ])('%j with %s', (template, value, expected) => {
    expect(render(template, value)).toBe(expected);
  });

  it.each<[string, number | string]>([
    ['{value:06.2f}', 1234.5],
    ['{value:06.2f}', 1.005_5],
    ['{value:d}', 1.5],
    ['{value:04X}', -1],
    ['{value:d}', 'text'],
    ['{value}', '1\r\nRESET'],
    ['{value}', 'ü'],
  ])('%s refuses %j', (template, value) => {
    expect(render(template, value)).toMatch(/^refused/);
  });

  it('writes bytes', () => {
    expect(render({ hex: '02 {address} {value:int16le} {value:float32} 03' }, -2)).toBe(
      '\x0207\xfe\xff\xc0\x00\x00\x00\x03',
    );
    expect(render({ hex: '{value:uint8}' }, 256)).toMatch(/^refused: 256 is not/);
    expect(render({ hex: '{value:uint8}' }, 'x')).toMatch(/^refused/);
  });

  it.each(['{', '}', '{speed}', '{value:z}'])('%s is no template', (template) => {
    expect(parseTemplate(template)).toBeTypeOf('string');
  });
  it('hexadecimal takes no letters', () => {
    expect(parseTemplate({ hex: '0G' })).toBeTypeOf('string');
  });
});
