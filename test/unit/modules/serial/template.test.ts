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
    ['{value}', 1e21, '1000000000000000000000'],
    ['{value}', -1.5e-7, '-0.00000015'],
    ['{value:.2f}', 1e22, '10000000000000000000000.00'],
    ['{value:.2f}', 9_007_199_254_740_993n, '9007199254740993.00'],
    ['{value:.0f}', -3, '-3'],
    ['{value:.2f}', 0.1 + 0.2, '0.30'],
    ['{value:08.3f}', -0.005, '-000.005'],
    ['{value:x}', 2n ** 60n, '1000000000000000'],
    ['{value:8s}', 'a', 'a       '],
    ['{value:4s}', true, '1   '],
    ['#{address}{checksum}', 0, '#0724'],
  ])('%j with %s', (template, value, expected) => {
    expect(render(template, value)).toBe(expected);
  });

  it.each<[string, number | string | bigint]>([
    ['{value:8s}', 'abcdefghijkl'],
    ['{value:.0f}', 123_456_789.1],
    ['{value:.6f}', 123_456_789.123_456_78],
    ['{value:.2f}', 1e-7],
    ['{value:d}', 1e-7],
    ['{value}', Number.POSITIVE_INFINITY],
    ['{value}', Number.NaN],
    ['{value}', 1e300],
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

  it.each<[string, number | bigint, string]>([
    ['float32', 230.1, '4366199a'],
    ['float32', 16_777_216, '4b800000'],
    ['float32', 3.402_823_466_385_288_6e38, '7f7fffff'],
    ['float64', 9_007_199_254_740_992n, '4340000000000000'],
    ['float64le', 0.1, '9a9999999999b93f'],
  ])('writes %s %s', (format, value, expected) => {
    expect(Buffer.from(render({ hex: `{value:${format}}` }, value), 'latin1').toString('hex')).toBe(expected);
  });

  it.each<[string, number | bigint]>([
    ['float32', 1e39],
    ['float32', -1e39],
    ['float32', 1e-50],
    ['float32', 16_777_217],
    ['float32', 2n ** 60n + 1n],
    ['float64', 9_007_199_254_740_993n],
    ['float64', Number.POSITIVE_INFINITY],
    ['int32', 2n ** 31n],
  ])('%s refuses %s', (format, value) => {
    expect(render({ hex: `{value:${format}}` }, value)).toMatch(/^refused/);
  });

  it.each(['{', '}', '{speed}', '{value:z}'])('%s is no template', (template) => {
    expect(parseTemplate(template)).toBeTypeOf('string');
  });
  it('hexadecimal takes no letters', () => {
    expect(parseTemplate({ hex: '0G' })).toBeTypeOf('string');
  });
});
