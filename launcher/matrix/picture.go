package matrix

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"strings"
)

const (
	margin  = 12
	letter  = 3 // pixels that a point of a letter has on each side
	line    = 8 * letter
	widest  = 900 // pixels of a matrix
	largest = 56  // of a way
)

var (
	paper   = color.RGBA{255, 255, 255, 255}
	ink     = color.RGBA{30, 30, 30, 255}
	unknown = color.RGBA{220, 220, 220, 255}
	good    = color.RGBA{26, 122, 82, 255}
	bad     = color.RGBA{200, 40, 40, 255}
)

// Picture draws the matrices below each other as a PNG: who sends from above to below, who reads from left to right, bandwidth on the left,
// latency on the right. Green is what is usual, red a fifth of that bandwidth or five times that latency.
func Picture(to io.Writer, matrices []*Matrix) error {
	tall := 0
	for _, m := range matrices {
		tall = max(tall, len(m.Nodes)*cell(len(m.Nodes)))
	}
	side, height := max(tall, 40*4*letter), 2*line+tall+3*margin
	img := image.NewRGBA(image.Rect(0, 0, 2*side+4*margin, max(1, len(matrices))*height))
	draw.Draw(img, img.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	for i, m := range matrices {
		u := m.Usual()
		m.part(img, margin, i*height+margin, "bandwidth by "+m.Carrier+", usual "+Speed(u.Bandwidth), func(w *Way) float64 { return u.Bandwidth / max(w.Bandwidth, 1) })
		m.part(img, side+3*margin, i*height+margin, "latency by "+m.Carrier+", usual "+Time(u.Latency), func(w *Way) float64 { return w.Latency / max(u.Latency, 1e-9) })
	}
	return png.Encode(to, img)
}

// cell is how large a way is drawn where there are n nodes.
func cell(n int) int { return max(2, min(largest, widest/max(n, 1))) }

// part draws one matrix. worse says how many times worse than usual a way is.
func (m *Matrix) part(img draw.Image, x, y int, title string, worse func(*Way) float64) {
	write(img, x, y, title)
	if n := len(m.Nodes); n > 0 {
		write(img, x, y+line, m.Nodes[0]+" to "+m.Nodes[n-1])
	}
	y += 2*line + margin
	size := cell(len(m.Nodes))
	for from := range m.Nodes {
		for to := range m.Nodes {
			c := unknown
			if w := m.Get(from, to); w != nil {
				c = between(good, bad, (worse(w)-1)/4)
			}
			gap := min(1, size/4) // a line between those that are large
			at := image.Rect(x+to*size, y+from*size, x+(to+1)*size-gap, y+(from+1)*size-gap)
			if from != to {
				draw.Draw(img, at, image.NewUniform(c), image.Point{}, draw.Src)
			}
		}
	}
}

// between mixes two colours: the first at 0, the second at 1 and beyond.
func between(a, b color.RGBA, part float64) color.RGBA {
	part = max(0, min(1, part))
	mix := func(x, y uint8) uint8 { return uint8(float64(x) + part*(float64(y)-float64(x))) }
	return color.RGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}

// glyphs are letters of three by five points, a row in three bits, the uppermost first.
var glyphs = map[rune]uint16{
	'0': 0o75557, '1': 0o26227, '2': 0o71747, '3': 0o71317, '4': 0o55711, '5': 0o74717, '6': 0o74757, '7': 0o71122, '8': 0o75757, '9': 0o75717,
	'a': 0o25755, 'b': 0o65656, 'c': 0o34443, 'd': 0o65556, 'e': 0o74647, 'f': 0o74644, 'g': 0o34553, 'h': 0o55755, 'i': 0o72227, 'j': 0o11152,
	'k': 0o55655, 'l': 0o44447, 'm': 0o57755, 'n': 0o65555, 'o': 0o25552, 'p': 0o65644, 'q': 0o25563, 'r': 0o65655, 's': 0o34216, 't': 0o72222,
	'u': 0o55557, 'v': 0o55552, 'w': 0o55775, 'x': 0o55255, 'y': 0o55222, 'z': 0o71247,
	'.': 0o00002, ',': 0o00024, '-': 0o00700, '_': 0o00007, '/': 0o11244, ':': 0o02020, '[': 0o64446, ']': 0o31113,
}

// write writes a line, letters of both cases alike; what there is no letter for is left out.
func write(img draw.Image, x, y int, text string) {
	for _, r := range strings.ToLower(text) {
		for row := range 5 {
			for col := range 3 {
				if glyphs[r]>>((4-row)*3+2-col)&1 == 1 {
					at := image.Rect(x+col*letter, y+row*letter, x+(col+1)*letter, y+(row+1)*letter)
					draw.Draw(img, at, image.NewUniform(ink), image.Point{}, draw.Src)
				}
			}
		}
		x += 4 * letter
	}
}
