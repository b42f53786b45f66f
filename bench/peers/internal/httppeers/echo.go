package httppeers

import (
	"net"
	"net/http"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// startEcho checks by hand: echo brings no validator.
func startEcho(ln net.Listener) (wire.HTTP, error) {
	e := echo.New()
	e.Use(middleware.Recover())
	e.POST(path, func(c *echo.Context) error {
		var t plainTask
		if err := c.Bind(&t); err != nil {
			return err
		}
		if err := t.check(); err != nil {
			return echo.NewHTTPError(http.StatusUnprocessableEntity, err.Error())
		}
		return c.JSON(http.StatusOK, t)
	})
	serve(ln, e)
	return post(path, "\n"), nil
}
