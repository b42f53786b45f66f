package httppeers

import (
	"net"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/process"
)

// startFiber serves by fasthttp, which is not net/http. It checks by hand: fiber brings no validator.
func startFiber(ln net.Listener) (wire.HTTP, error) {
	app := fiber.New()
	app.Use(recover.New())
	app.Post(path, func(c fiber.Ctx) error {
		var t plainTask
		if err := c.Bind().Body(&t); err != nil {
			return err
		}
		if err := t.check(); err != nil {
			return fiber.NewError(fiber.StatusUnprocessableEntity, err.Error())
		}
		return c.JSON(t)
	})
	process.ServeUntilExit(func() error {
		return app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true})
	})
	return post(path, ""), nil
}
